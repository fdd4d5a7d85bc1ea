"""Settings of `meshd`: defaults, file, flags, and what is refused."""

from pathlib import Path

import pytest

from meshd.cli.config import Config, read_config
from meshd.core.errors import Invalid
from meshd.daemon.settings import EtcdSettings


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


ETCD = {"store": "etcd", "etcd": "etcd1:2379,10.0.0.2:2379,[::1]:2379"}


def test_where_etcd_is(tmp_path: Path) -> None:
    etcd = read_config(None, {"store": "etcd"}).etcd_settings
    assert (etcd.endpoints, etcd.prefix) == (("127.0.0.1:2379",), "/meshd/")
    for name in ("ca", "cert", "key", "password"):
        (tmp_path / name).write_text("here")
    file = tmp_path / "meshd.toml"
    file.write_text(
        'store = "etcd"\netcd = ["https://e1:2379", "https://e2:2379"]\netcd-prefix = "/m"\n'
        f'etcd-ca = "{tmp_path}/ca"\netcd-cert = "{tmp_path}/cert"\netcd-key = "{tmp_path}/key"\n'
        f'etcd-user = "meshd"\netcd-password-file = "{tmp_path}/password"\n'
    )
    etcd = read_config(file, {}).etcd_settings
    assert etcd == EtcdSettings(
        endpoints=("https://e1:2379", "https://e2:2379"),
        prefix="/m/",
        ca=tmp_path / "ca",
        cert=tmp_path / "cert",
        key=tmp_path / "key",
        user="meshd",
        password_file=tmp_path / "password",
    )


@pytest.mark.parametrize(
    ("given", "endpoints"),
    [
        ("e1:2379,[::1]:2379", ("e1:2379", "[::1]:2379")),
        ("http://e1:2379/,e2:2379", ("e1:2379", "e2:2379")),
        ("https://e1:2379/", ("https://e1:2379",)),
    ],
)
def test_endpoints(given: str, endpoints: tuple[str, ...], tmp_path: Path) -> None:
    assert read_config(None, {"store": "etcd", "etcd": given}).etcd == endpoints
    (tmp_path / "ca").write_text("here")
    flags = {"store": "etcd", "etcd": "e1:2379", "etcd-ca": str(tmp_path / "ca")}
    assert read_config(None, flags).etcd == ("https://e1:2379",)


@pytest.mark.parametrize(
    ("flags", "keys"),
    [
        ({"store": "etcd", "grpc": "0.0.0.0:7700", "insecure": True}, ["advertise"]),
        ({"store": "etcd", "grpc": "[::]:7700"}, ["insecure", "advertise"]),
        (ETCD | {"advertise": "0.0.0.0:7700"}, ["advertise"]),
        (ETCD | {"advertise": "core1"}, ["advertise"]),
        (ETCD | {"etcd": "https://e1:2379,e2:2379"}, ["etcd"]),
        (ETCD | {"etcd": "e1,e2:2379"}, ["etcd"]),
        (ETCD | {"etcd": "http://e1:2379", "etcd-ca": __file__}, ["etcd"]),
        (ETCD | {"etcd-ca": "/none"}, ["etcd-ca"]),
        (ETCD | {"etcd-cert": __file__}, ["etcd-key"]),
        (ETCD | {"etcd-user": "meshd"}, ["etcd-password-file"]),
        (ETCD | {"etcd-password-file": __file__}, ["etcd-password-file"]),
        ({"etcd": "e1:2379"}, ["etcd"]),
        ({"core": "10.0.0.5"}, ["core"]),
        (
            {"store": "etcd", "grpc": "0.0.0.0:7700", "etcd": "e1", "etcd-key": __file__},
            ["insecure", "advertise", "etcd-key", "etcd"],
        ),
    ],
)
def test_what_does_not_go_together(flags: dict[str, object], keys: list[str]) -> None:
    with pytest.raises(Invalid) as refused:
        read_config(None, flags)
    assert [fault.where for fault in refused.value.faults] == keys


def test_a_core_behind_every_address_says_where_it_is() -> None:
    flags = {"store": "etcd", "grpc": "0.0.0.0:7700", "insecure": True, "advertise": "core1:7700"}
    assert read_config(None, flags).advertise == "core1:7700"
    # With a store of its own nobody asks for it.
    assert read_config(None, {"grpc": "0.0.0.0:7700", "insecure": True}).advertise is None


def test_the_core_is_told_of_its_store() -> None:
    from meshd.cli.meshd import core_settings

    config = read_config(None, ETCD | {"advertise": "core1:7700", "node": "n1", "vantage": 3})
    told = core_settings(config)
    assert (told.store, told.etcd.endpoints) == ("etcd", config.etcd)
    assert (told.advertise, told.node, told.probes.vantage) == ("core1:7700", "n1", 3)
    assert core_settings(read_config(None, {})).store == "embedded"


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"none\.toml"):
        read_config(tmp_path / "none.toml", {})


@pytest.mark.parametrize("command", ["pdns_control purge", "{name}", "", "a '{name}"])
def test_a_purge_command_names_the_name(command: str) -> None:
    with pytest.raises(Invalid, match="purge"):
        read_config(None, {"purge": command})
    assert read_config(None, {"purge": "pdns_control purge {name}$"}).purge


def test_a_token_is_read_from_a_file_and_long_enough(tmp_path: Path) -> None:
    file = tmp_path / "token"
    for text, what in ((None, "cannot be read"), ("short\n", "less than 16 characters")):
        if text is not None:
            file.write_text(text)
        with pytest.raises(Invalid, match=what):
            read_config(None, {"deploy-token-file": str(file)})
    file.write_text("0123456789abcdef\n")
    assert read_config(None, {"deploy-token-file": str(file)}).deploy_token_file == file
    assert read_config(None, {}).deploy_token_file is None
