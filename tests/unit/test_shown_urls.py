"""What may be shown of a URL that may hold a password, also of one that was not percent-encoded."""

import pytest

from otel_analytics.errors import OtelAnalyticsError, SettingsError
from otel_analytics.settings import without_password
from otel_analytics.store.connection import connect


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:hunter2@h:1/0", "redis://h:1/0"),
        ("redis://me:hunter2@h:1/0?x=hunter2", "redis://me@h:1/0"),
        ("unix://me:hunter2@/tmp/x.sock?db=1", "unix://me@/tmp/x.sock"),
        ("postgresql://me:hunter2@h1:1,[::1]:2/db?password=hunter2", "postgresql://me@h1:1,[::1]:2/db"),
        ("host=h password='hun ter2' user=me dbname = db", "host=h user=me dbname=db"),
        (r"password = 'hun\' ter2' host=h", "host=h"),
        ("postgresql://me:hun/ter2@h/db", "postgresql://(unreadable)"),
        ("postgresql://me:hun?ter2@h/db", "postgresql://(unreadable)"),
        ("postgresql://me:hun@ter2@h/db", "postgresql://(unreadable)"),
        ("redis://me:hun#ter2@h/0", "redis://me@h/0"),
    ],
)
def test_no_password_is_shown(url, shown):
    assert without_password(url) == shown


@pytest.mark.parametrize("password", ["hun/ter2", "hun@ter2", "hun%ter2", "hun:ter2", "hun ter2", "hun#ter2"])
def test_a_dsn_whose_password_is_not_encoded_is_refused_without_it(password):
    with pytest.raises(OtelAnalyticsError) as refused:
        connect(f"postgresql://me:{password}@127.0.0.1:1/db")
    assert "hun" not in str(refused.value)
    assert "ter2" not in str(refused.value)


@pytest.mark.parametrize(
    "dsn", ["postgresql://me:hunter2", "postgresql://me:hunter2/db", "port=5432,hunter2"]
)
def test_a_dsn_whose_port_is_a_password_is_refused_without_it(dsn):
    with pytest.raises(SettingsError) as refused:
        connect(dsn)
    assert "hunter2" not in str(refused.value)
