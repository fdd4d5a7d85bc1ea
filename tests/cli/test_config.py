"""Settings of `meshd`: defaults, file, flags, and what is refused."""

from pathlib import Path

import pytest

from meshd.cli.config import Config, read_config
from meshd.core.errors import Invalid


def test_defaults() -> None:
    config = read_config(None, {})
    assert (config.grpc, config.http, config.dns) == (
        "127.0.0.1:7700",
        "127.0.0.1:7780",
        ("127.0.0.1:5300",),
    )
    assert config.bridge_path == Path("meshd-data/bridge.sock")
    assert 1 <= config.answerers <= 4
    assert [str(network) for network in config.ecs_from] == ["127.0.0.0/8", "::1/128"]


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "meshd.toml"
    file.write_text(
        'grpc = "127.0.0.1:1"\ndns = ["127.0.0.1:53", "[::1]:53"]\necs-from = "10.0.0.0/8"\n'
    )
    config = read_config(file, {"grpc": "127.0.0.1:2", "http": None})
    assert config.grpc == "127.0.0.1:2"
    assert config.dns == ("127.0.0.1:53", "[::1]:53")
    assert [str(network) for network in config.ecs_from] == ["10.0.0.0/8"]


def test_nothing_is_allowed_to_probes_unless_said(tmp_path: Path) -> None:
    config = read_config(None, {})
    assert (config.probe_allow, config.probe_ports) == ((), ())
    assert (config.probe_in_flight, config.vantage) == (256, 2)
    config = read_config(None, {"probe-allow": "127.0.0.0/8,::1/128", "probe-ports": "22,9090"})
    assert [str(network) for network in config.probe_allow] == ["127.0.0.0/8", "::1/128"]
    assert config.probe_ports == (22, 9090)
    file = tmp_path / "meshd.toml"
    file.write_text('probe-allow = ["127.0.0.0/8"]\nprobe-ports = [22]\nprobe-in-flight = 8\n')
    config = read_config(file, {})
    assert ([str(net) for net in config.probe_allow], config.probe_ports) == (
        ["127.0.0.0/8"],
        (22,),
    )


def test_every_flag_has_a_key() -> None:
    from meshd.cli.meshd import answer, serve

    keys = {field.alias or name for name, field in Config.model_fields.items()}
    flags = {
        option.lstrip("-")
        for command in (serve, answer)
        for p in command.params
        for option in p.opts
    }
    assert flags - {"config", "help"} == keys


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ('grpc = "7700"\ndns = "nowhere:53"\nanswerers = 0\nspeed = 9\n', 4),
        ("grpc = \n", 1),
        ('grpc = "0.0.0.0:7700"\n', 1),
        ('ecs-from = "10.0.0.1/8"\n', 1),
        ('probe-allow = "lo"\nprobe-ports = [0, 80]\nprobe-in-flight = 0\nvantage = 0\n', 4),
        ('probe-ports = "80,http"\n', 1),
    ],
)
def test_everything_wrong_is_said_at_once(tmp_path: Path, text: str, count: int) -> None:
    file = tmp_path / "meshd.toml"
    file.write_text(text)
    with pytest.raises(Invalid) as refused:
        read_config(file, {})
    assert len(refused.value.faults) == count


def test_insecure_must_be_said(tmp_path: Path) -> None:
    assert read_config(None, {"grpc": "0.0.0.0:7700", "insecure": True}).insecure
    with pytest.raises(Invalid, match="insecure"):
        read_config(None, {"grpc": "[::]:7700"})


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"none\.toml"):
        read_config(tmp_path / "none.toml", {})


@pytest.mark.parametrize("command", ["pdns_control purge", "{name}", "", "a '{name}"])
def test_a_purge_command_names_the_name(command: str) -> None:
    with pytest.raises(Invalid, match="purge"):
        read_config(None, {"purge": command})
    assert read_config(None, {"purge": "pdns_control purge {name}$"}).purge
