from pathlib import Path

import pytest

from furiosa.broker.settings import BadSettings, BrokerSettings


def load(*arguments: str, **environment: str) -> BrokerSettings:
    return BrokerSettings.load(arguments, environment)


def test_file_then_environment_then_flags_and_the_later_wins(tmp_path: Path) -> None:
    config = tmp_path / "broker.toml"
    config.write_text(
        'emulate = 1\ndrain_grace = 1.5\naging = 2\nsocket_mode = "600"\n'
        'log_level = "DEBUG"\nsocket = "/run/a"\n'
    )
    settings = load(
        *("--config", str(config), "--emulate", "3"),
        FURIOSA_BROKERD_EMULATE="2",
        FURIOSA_BROKERD_LOG_LEVEL="ERROR",
    )
    assert settings.emulate == 3
    assert settings.log_level == "ERROR"
    assert (settings.drain_grace, settings.aging, settings.socket_mode) == (1.5, 2.0, 0o600)
    assert settings.socket == Path("/run/a")
    assert settings.handoff_socket == Path("/run/a.handoff")


def test_defaults_are_those_of_a_node_with_real_cards() -> None:
    settings = load()
    assert (settings.emulate, settings.embedded, settings.root) == (0, False, Path("/"))
    assert settings.data_socket == Path("/run/furiosa/broker.sock.data")
    assert load("--embedded").data_socket is None
    assert load("--embedded", "--data-plane", "on").data_socket is not None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--emulate", "1025"], "emulate is 1025, expected 0..1024"),
        (["--emulate", "two"], "--emulate is 'two', expected int"),
        (["--log-level", "LOUD"], "log_level is 'LOUD'"),
        (["--socket-mode", "888"], "--socket-mode is '888'"),
        (["--drain-grace", "nan"], "drain_grace is nan"),
        (["--data-plane", "maybe"], "data_plane is 'maybe'"),
        (["--socket", "/" + "x" * 120], "too long for a Unix socket"),
        (["--config", "/does/not/exist"], "/does/not/exist"),
    ],
)
def test_a_bad_setting_is_named_with_its_value(arguments: list[str], said: str) -> None:
    with pytest.raises(BadSettings) as caught:
        load(*arguments)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("emulat = 1", "unknown setting 'emulat'; one of socket, state"),
        ("emulate = 'x'", "broker.toml: emulate is 'x', expected int"),
        ("emulate = 1.5", "broker.toml: emulate is 1.5, expected int"),
        ("drain_grace = true", "broker.toml: drain_grace is True, expected float"),
        ("tenants = 5", "broker.toml: tenants is 5, expected str"),
        ("not toml", "broker.toml: "),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, text: str, said: str) -> None:
    config = tmp_path / "broker.toml"
    config.write_text(text)
    with pytest.raises(BadSettings) as caught:
        load("--config", str(config))
    assert said in str(caught.value)


def test_environment_sets_flags_by_words() -> None:
    assert load(FURIOSA_BROKERD_EMBEDDED="true").embedded
    assert not load(FURIOSA_BROKERD_EMBEDDED="0").embedded
    with pytest.raises(BadSettings, match="FURIOSA_BROKERD_EMBEDDED is 'perhaps'"):
        load(FURIOSA_BROKERD_EMBEDDED="perhaps")
