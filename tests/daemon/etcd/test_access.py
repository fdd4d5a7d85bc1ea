"""What is wrong with the settings of etcd is said at once, all of it."""

from pathlib import Path

import pytest

from meshd.core.errors import Invalid
from meshd.daemon.etcd.access import access_of
from meshd.daemon.settings import EtcdSettings


@pytest.mark.parametrize(
    ("given", "endpoint"),
    [
        ("etcd1:2379", "etcd1:2379"),
        ("http://etcd1:2379", "etcd1:2379"),
        ("http://[::1]:2379/", "[::1]:2379"),
        ("127.0.0.1:2379", "127.0.0.1:2379"),
    ],
)
def test_endpoints_without_tls(given: str, endpoint: str) -> None:
    access = access_of(EtcdSettings(endpoints=(given,)))
    assert access.endpoints == (endpoint,)
    assert access.credentials is None


def test_https_is_tls_with_the_authorities_of_the_system() -> None:
    access = access_of(EtcdSettings(endpoints=("https://etcd1:2379", "https://etcd2:2379")))
    assert access.endpoints == ("etcd1:2379", "etcd2:2379")
    assert access.credentials is not None


@pytest.mark.parametrize(
    "given", ["", "etcd1", "etcd1:port", "etcd1:99999", "ftp://a:1", "http://a:1/b", "http://u@a:1"]
)
def test_what_is_no_endpoint(given: str) -> None:
    with pytest.raises(Invalid, match="endpoints"):
        access_of(EtcdSettings(endpoints=(given,)))


def test_everything_wrong_is_listed(tmp_path: Path) -> None:
    key, password = tmp_path / "key", tmp_path / "password"
    for secret in (key, password):
        secret.write_text("secret")
        secret.chmod(0o640)
    settings = EtcdSettings(
        endpoints=("http://a:1", "b"),
        ca=tmp_path / "absent",
        key=key,
        password_file=password,
    )
    with pytest.raises(Invalid) as refused:
        access_of(settings)
    assert [fault.where for fault in refused.value.faults] == [
        "etcd.endpoints", "etcd.ca", "etcd.key", "etcd.password_file",
        "etcd.endpoints", "etcd.cert", "etcd.user",
    ]  # fmt: skip
    assert "secret" not in str(refused.value)
    assert "0640" in str(refused.value)


def test_a_password_is_the_first_line_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("pass word\n")
    path.chmod(0o600)
    access = access_of(EtcdSettings(user="meshd", password_file=path))
    assert (access.user, access.password) == ("meshd", "pass word")
    assert "pass word" not in repr(access)
