from urllib.parse import parse_qsl, quote, quote_plus, urlencode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from otel_analytics.params import IGNORED_IN_PATTERN, ParamRules, looks_secret, without_id
from otel_analytics.record import (
    MAX_PARAM_LENGTH,
    MAX_PARAMS,
    MAX_PARAMS_LENGTH,
    MAX_ROUTE_FULL_LENGTH,
    REDACTED,
    is_storable,
)

RULES = ParamRules()

any_text = st.text(st.characters(exclude_categories=()), max_size=40)
sane_text = st.text(min_size=1, max_size=20)
queries = st.one_of(
    any_text,
    # As a server hands them over: any byte at all, taken for latin-1.
    st.binary(max_size=200).map(lambda raw: raw.decode("latin-1")),
    st.lists(st.tuples(any_text, any_text), max_size=80).map(
        lambda pairs: "&".join(f"{quote(name, errors='replace')}={value}" for name, value in pairs)
    ),
)


def texts_of(params):
    for name, value in params.items():
        yield name
        yield from value if isinstance(value, list) else (value,)


@given(queries, any_text)
@example("%ED%A0%80=%00", "/\ud800")
@example("&".join(f"p{n}={'x' * 300}" for n in range(200)), "/" * 5_000)
@example("x=" + "%41" * 5_000, "/")
def test_whatever_is_sent_what_is_kept_is_small_and_can_be_stored(query, path):
    params, pattern = RULES.read(query)
    for each in (params, pattern):
        texts = list(texts_of(each))
        assert all(is_storable(text) and len(text) <= MAX_PARAM_LENGTH for text in texts)
        assert sum(map(len, texts)) <= MAX_PARAMS_LENGTH
    assert sum(len(value) if isinstance(value, list) else 1 for value in params.values()) <= MAX_PARAMS
    shown = RULES.redact(path, query)
    assert is_storable(shown)
    assert len(shown) <= MAX_ROUTE_FULL_LENGTH


@given(st.one_of(queries, st.text("ab1.-=&%+@:/ ?;eyJtoken", max_size=40)), any_text)
@example("page=2&sort=name", "/things/7")
@example("a&b=&a", "/")
@example("&".join(f"p{n}" for n in range(60)), "/")
@example("access_token=x&page=1", "/")
@example("q=eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.", "/" * 2_048)
def test_in_one_go_it_is_the_same(query, path):
    assert RULES.address(path, query) == (RULES.redact(path, query), *RULES.read(query))


@given(st.lists(st.tuples(sane_text, sane_text), max_size=20))
def test_it_reads_what_other_parsers_read(pairs):
    pairs = [(name, value) for name, value in pairs if not looks_secret(name)]
    query = urlencode(pairs)
    expected = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        expected.setdefault(name.replace("\x00", "\ufffd"), []).append(value.replace("\x00", "\ufffd"))
    params, _ = RULES.read(query)
    assert {name: value if isinstance(value, list) else [value] for name, value in params.items()} == expected


def encoded(params):
    pairs = [
        (name, each)
        for name, value in params.items()
        for each in (value if isinstance(value, list) else [value])
    ]
    return urlencode(pairs)


@given(queries)
def test_a_pattern_is_its_own_pattern(query):
    _, pattern = RULES.read(query)
    if sum(map(len, texts_of(pattern))) < MAX_PARAMS_LENGTH // 2:
        assert RULES.read(encoded(pattern))[1] == pattern


@given(st.dictionaries(sane_text, sane_text, max_size=MAX_PARAMS), st.randoms())
def test_the_order_of_names_does_not_matter(params, chance):
    pairs = list(params.items())
    chance.shuffle(pairs)
    one, other = RULES.read(urlencode(params))[1], RULES.read(urlencode(pairs))[1]
    assert list(one.items()) == list(other.items())
    assert IGNORED_IN_PATTERN.isdisjoint(one)


secret_names = st.sampled_from(
    ["token", "api_key", "apiKey", "X-Amz-Signature", "password", "PWD", "client_secret", "sig", "ssn", "SSN"]
)


@given(
    st.lists(st.tuples(any_text, any_text), max_size=60),
    secret_names,
    st.sampled_from([quote, quote_plus, lambda text: "".join(f"%{byte:02X}" for byte in text.encode())]),
    st.integers(0, 60),
    st.integers(0, 3_000),
)
def test_the_value_of_a_secret_never_appears(pairs, name, encode, place, filler):
    secret = "Zq9-SeCrEt-9qZ"
    pieces = [f"{quote(key, errors='replace')}={quote(value, errors='replace')}" for key, value in pairs]
    pieces.insert(place, f"{encode(name)}={secret}")
    pieces.insert(0, "x=" + "y" * filler)
    query = "&".join(pieces)
    rules = ParamRules(redacted=["ssn"])
    params, pattern = rules.read(query)
    for kept in (params, pattern, rules.redact("/", query)):
        assert "SeCrEt" not in str(kept)


def test_a_repeated_secret_is_hidden_every_time():
    assert RULES.read("token=a&q=1&token=b")[0] == {"token": [REDACTED, REDACTED], "q": "1"}
    assert RULES.redact("/", "token=a&q=1&token=b&token") == f"/?token={REDACTED}&q=1&token={REDACTED}&token"


@pytest.mark.parametrize(
    ("query", "params", "pattern"),
    [
        ("", {}, {}),
        ("&&", {}, {}),
        ("a", {"a": ""}, {"a": ""}),
        ("a=", {"a": ""}, {"a": ""}),
        ("=a", {"": "a"}, {"": "a"}),
        ("a=1=2", {"a": "1=2"}, {"a": "1=2"}),
        ("b=2&a=1&b=1", {"b": ["2", "1"], "a": "1"}, {"a": "1", "b": ["2", "1"]}),
        ("a+b=%2B+%26", {"a b": "+ &"}, {"a b": "+ &"}),
        ("q=%C3%A9%F0%9F%98%80", {"q": "é😀"}, {"q": "é😀"}),
        ("q=%FF%00", {"q": "\ufffd\ufffd"}, {"q": "\ufffd\ufffd"}),
        ("page=1&page_size=10&limit=2", {"page": "1", "page_size": "10", "limit": "2"}, {"page_size": "10"}),
    ],
)
def test_read(query, params, pattern):
    assert RULES.read(query) == (params, pattern)


def test_further_names():
    rules = ParamRules(redacted=["SSN"], ignored_in_pattern=["variant"])
    assert rules.read("ssn=1&variant=b&page=2&q=x") == (
        {"ssn": REDACTED, "variant": "b", "page": "2", "q": "x"},
        {"q": "x", "ssn": REDACTED},
    )


@pytest.mark.parametrize(
    "name",
    [
        "auth", "Authorization", "api-key", "api_key", "apikey", "apiKey", "X-API-Key", "secret",
        "client_secret", "clientSecret", "token", "access_token", "accesstoken", "id_token", "refreshToken",
        "password", "new-password", "passwd", "pwd", "userpassword", "signature", "sig", "X-Amz-Signature",
        "X-Amz-Credential", "X-Amz-Security-Token", "X-Goog-Signature", "AWSAccessKeyId-Signature", "jwt",
        "oauth", "AWSAccessKeyId", "private_key",
    ],
)  # fmt: skip
def test_names_of_secrets(name):
    assert looks_secret(name)


@pytest.mark.parametrize(
    "name",
    [
        "author", "authors", "design", "sign", "assignee", "q", "page", "key", "keyword", "monkey", "pass",
        "passenger", "tokens_used", "insight", "", "é", "session", "code", "signal",
    ],
)  # fmt: skip
def test_names_of_no_secret(name):
    assert not looks_secret(name)


@pytest.mark.parametrize(
    ("value", "hidden"),
    [
        (
            "https://b.example/a.tif?X-Amz-Signature=Zq9&v=1",
            "https://b.example/a.tif?X-Amz-Signature=REDACTED&v=1",
        ),
        ("https://bob:Zq9@b.example/a?v=1", "https://REDACTED@b.example/a?v=1"),
        ("/back?next=1&access_token=Zq9#top", "/back?next=1&access_token=REDACTED#top"),
        ("https://b.example/a?v=1&w=2", "https://b.example/a?v=1&w=2"),
        ("bob@b.example", "bob@b.example"),
        ("a=b", "a=b"),
        ("100%", "100%"),
    ],
)
@pytest.mark.parametrize("times", [1, 2])
def test_secrets_of_an_address_within_a_value_are_hidden(value, hidden, times):
    encoded = value
    for _ in range(times):
        encoded = quote(encoded, safe="")
    params, pattern = RULES.read(f"url={encoded}&q=1")
    assert params == pattern
    assert params["url"] == (hidden if times == 1 or hidden != value else quote(value, safe=""))
    full = RULES.redact("/", f"url={encoded}&q=1")
    assert "Zq9" not in full
    assert full.endswith("&q=1")
    if hidden == value:
        assert full == f"/?url={encoded}&q=1"


JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZGEifQ.Zq9_Zq9-Zq9"


@pytest.mark.parametrize("value", [JWT, quote(quote(JWT.replace(".", "%2E"))), f"/next/{JWT}/x", f"x {JWT}"])
def test_a_token_is_hidden_whatever_its_name(value):
    params, _ = RULES.read(urlencode({"t": value}))
    assert REDACTED in params["t"]
    for shown in (params["t"], RULES.redact(f"/confirm/{JWT}", urlencode({"t": value}))):
        assert "Zq9" not in shown
        assert "eyJ" not in shown


@pytest.mark.parametrize("text", ["eyJ", "eyJ.a", "heyJude.a.b", "a.b.c"])
def test_what_is_no_token_stays(text):
    assert RULES.redact(f"/{text}", f"q={text}") == f"/{text}?q={text}"


@pytest.mark.parametrize(
    ("route", "path"),
    [
        ("/reset/{token}", "/reset/{token}"),
        ("/users/{id}/{ssn}/x", "/users/{id}/{ssn}/x"),
        ("/auth/{id}", "/auth/7"),
        ("(unmatched)", "/auth/7"),
    ],
)
def test_a_path_with_a_secret_is_shown_as_its_template(route, path):
    assert ParamRules(redacted=["ssn"]).path("/auth/7", route) == path


@pytest.mark.parametrize(
    ("path", "query"),
    [("/users/ada%40b/x", "q=ada%40b&ada%40b=1"), ("/", "by=ada@b&by=%61da%40b"), ("/ada@b", "")],
)
def test_the_id_of_a_user_gives_way_to_what_stands_for_it(path, query):
    shown_path, shown_query = without_id(path, query, "ada@b", "5d41")
    assert shown_path == path.replace("ada%40b", "5d41").replace("ada@b", "5d41")
    assert parse_qsl(shown_query) == [
        (name, "5d41" if value == "ada@b" else value) for name, value in parse_qsl(query)
    ]


def test_a_password_in_a_path_is_hidden():
    assert RULES.redact("/proxy/https://bob:Zq9@b.example/a", "") == "/proxy/https://REDACTED@b.example/a"
    assert RULES.redact("/@bob/a", "") == "/@bob/a"
