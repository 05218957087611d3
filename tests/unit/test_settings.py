import dataclasses
import math

import pytest

from otel_analytics.errors import SettingsError
from otel_analytics.settings import CONFIG_FILE, ENV_PREFIX, Settings, load

SECRETS = {
    "redis_url": "redis://:hunter2@redis.example/0",
    "postgres_dsn": "postgresql://me:hunter2@pg.example/db",
    "hash_key": "hunter2",
}


@pytest.fixture(autouse=True)
def _in_an_empty_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write_config(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_arguments_win_over_the_environment_over_the_file_over_the_defaults(tmp_path, monkeypatch):
    write_config(tmp_path / CONFIG_FILE, "days = 2\ntop_n_routes = 2\nmin_requests = 2\n")
    monkeypatch.setenv("OTEL_ANALYTICS_DAYS", "3")
    monkeypatch.setenv("OTEL_ANALYTICS_TOP_N_ROUTES", "3")
    settings = load({"days": 4, "top_n_routes": None})
    assert (settings.days, settings.top_n_routes, settings.min_requests) == (4, 3, 2)
    assert settings.min_latency == Settings().min_latency == 100


def test_a_file_is_named_by_argument_over_environment_over_its_place(tmp_path):
    write_config(tmp_path / CONFIG_FILE, "days = 1")
    second = write_config(tmp_path / "second.toml", "days = 2")
    third = write_config(tmp_path / "third.toml", "days = 3")
    environ = {"OTEL_ANALYTICS_CONFIG": str(second)}
    assert load(environ={}).days == 1
    assert load(environ=environ).days == 2
    assert load(environ=environ, config_file=third).days == 3


def test_every_kind_of_value_can_come_from_every_source(tmp_path):
    expected = Settings(
        exporter="postgres",
        days=9,
        min_latency=2.5,
        response_hash=False,
        redacted_params=("card", "ssn"),
        metrics_path="",
    )
    environ = {
        "EXPORTER": "postgres",
        "DAYS": "9",
        "MIN_LATENCY": "2.5",
        "RESPONSE_HASH": "off",
        "REDACTED_PARAMS": "card, ssn,",
        "METRICS_PATH": "",
    }
    file = write_config(
        tmp_path / "all.toml",
        'exporter = "postgres"\ndays = 9\nmin_latency = 2.5\nresponse_hash = false\n'
        'redacted_params = ["card", "ssn"]\nmetrics_path = ""\n',
    )
    assert load(environ={ENV_PREFIX + name: text for name, text in environ.items()}) == expected
    assert load(environ={}, config_file=file) == expected
    assert load({**dataclasses.asdict(expected), "redacted_params": ["card", "ssn"]}, environ={}) == expected


@pytest.mark.parametrize(("text", "value"), [("1", True), ("TRUE", True), (" no", False), ("Off", False)])
def test_truth_has_many_spellings(text, value):
    assert (
        load(environ={"OTEL_ANALYTICS_USER_ID_HMAC": text, "OTEL_ANALYTICS_HASH_KEY": "k"}).user_id_hmac
        is value
    )


def test_settings_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().days = 1


def test_an_unknown_name_is_refused_with_the_nearest_one(tmp_path):
    file = write_config(tmp_path / "typo.toml", "top_n_route = 1")
    for attempt, hint in (
        (lambda: load({"dayz": 1}, environ={}), "unknown argument dayz; did you mean days?"),
        (lambda: load(environ={"OTEL_ANALYTICS_REDIS_URI": "x"}), "did you mean OTEL_ANALYTICS_REDIS_URL?"),
        (lambda: load(environ={}, config_file=file), f"{file} top_n_route; did you mean top_n_routes?"),
        (lambda: load({"qqqqqq": 1}, environ={}), "see the list of settings in the README"),
    ):
        with pytest.raises(SettingsError) as error:
            attempt()
        assert hint in str(error.value)


WRONG = [
    ("days", 0, "at least 1"),
    ("days", True, "a whole number"),
    ("days", 1.5, "a whole number"),
    ("days", 36_501, "at most 36500"),
    ("min_latency", math.nan, "finite"),
    ("min_latency", math.inf, "finite"),
    ("min_latency", -0.5, "at least 0"),
    ("min_latency", "9", "a number"),
    ("response_hash", "yes", "true or false"),
    ("exporter", "kafka", "one of redis, postgres"),
    ("exporter", [], "one of redis, postgres"),
    ("redacted_params", "card", "a list of texts"),
    ("redacted_params", [1], "a list of texts"),
    ("capture_client", ["cookies"], "may hold only client_address"),
    ("worker_metrics_port", 65_536, "at most 65535"),
    ("metrics_path", "metrics", "begin with /"),
    ("key_prefix", b"x", "text"),
    ("user_id_hmac", True, "needs hash_key"),
]


@pytest.mark.parametrize(("name", "value", "reason"), WRONG)
def test_a_wrong_value_is_refused_by_name_and_reason(name, value, reason):
    with pytest.raises(SettingsError, match=f"setting {name}: .*{reason}"):
        load({name: value}, environ={})


@pytest.mark.parametrize(
    ("variable", "text", "reason"),
    [
        ("DAYS", "seven", "a whole number"),
        ("DAYS", "7.0", "a whole number"),
        ("MIN_LATENCY", "fast", "a number"),
        ("MIN_LATENCY", "nan", "finite"),
        ("RESPONSE_HASH", "maybe", "true or false"),
        ("DAYS", "-1", "at least 1"),
    ],
)
def test_a_wrong_text_in_the_environment_is_refused(variable, text, reason):
    with pytest.raises(SettingsError, match=reason) as error:
        load(environ={ENV_PREFIX + variable: text})
    assert variable in str(error.value).upper()


def test_a_file_that_cannot_be_used_is_named(tmp_path):
    broken = write_config(tmp_path / "broken.toml", 'hash_key = "hunter2')
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    for path, reason in (
        (broken, "not valid TOML"),
        (binary, "not valid TOML"),
        (tmp_path / "missing.toml", "No such file"),
        (tmp_path, "Is a directory"),
    ):
        with pytest.raises(SettingsError, match=reason) as error:
            load(environ={}, config_file=path)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)
        assert "hunter2" not in str(error.value)


def test_no_secret_shows(tmp_path):
    assert "hunter2" not in repr(Settings(**SECRETS))
    assert "hunter2" not in str(Settings(**SECRETS))
    for name, secret in SECRETS.items():
        variable = ENV_PREFIX + name.upper()
        file = write_config(tmp_path / "secret.toml", f'{name} = ["{secret}"]')
        for attempt in (
            lambda name=name, secret=secret: load({name: [secret]}, environ={}),
            lambda name=name, secret=secret: load({name: secret.encode()}, environ={}),
            lambda name=name, secret=secret: load({name + "s": secret}, environ={}),
            lambda variable=variable, secret=secret: load(environ={variable + "S": secret}),
            lambda variable=variable, secret=secret: load(
                environ={variable: secret, f"{ENV_PREFIX}DAYS": "0"}
            ),
            lambda file=file: load(environ={}, config_file=file),
        ):
            with pytest.raises(SettingsError) as error:
                attempt()
            assert "hunter2" not in str(error.value)


def test_a_value_in_the_wrong_place_is_not_repeated():
    for each in dataclasses.fields(Settings):
        with pytest.raises(SettingsError) as error:
            load({each.name: ("hunter2", 0)}, environ={})
        assert each.name in str(error.value)
        assert "hunter2" not in str(error.value)


def test_every_setting_is_documented():
    described = {line.strip().partition(":")[0] for line in Settings.__doc__.splitlines()}
    assert {each.name for each in dataclasses.fields(Settings)} <= described
