import pytest

from bastide.attest.store.databaseurl import DatabaseUrl
from bastide.errors import ConfigError

SECRET = "s3cret"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"postgresql://bastide:{SECRET}@db.example.org:5432/attest?sslmode=verify-full", "db.example.org:5432/attest"),
        (f"postgres://bastide:{SECRET}%40{SECRET}@[2001:db8::1]/attest", "[2001:db8::1]/attest"),
        ("postgresql://one:5432,two:5433/attest?target_session_attrs=read-write", "one:5432,two:5433/attest"),
        (f"postgresql:///attest?host=/run/postgresql&password={SECRET}", "/attest"),
        ("postgresql://", ""),
    ],
)
def test_is_shown_without_user_password_and_settings(text: str, shown: str) -> None:
    url = DatabaseUrl.parse(text)
    assert url.dsn == text
    assert url.shown == f"postgresql://{shown}"
    assert SECRET not in repr(url)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/var/lib/attest.sqlite",
        "sqlite:///attest",
        f"mysql://bastide:{SECRET}@db/attest",
        f"postgresql://bastide:{SECRET}",
        f"postgresql://bastide:{SECRET}/x@db/attest",
        f"postgresql://bastide:{SECRET}?x@db/attest",
        f"postgresql://bastide:{SECRET}#x@db/attest",
        f"postgresql://bastide:{SECRET}@x@db/attest",
        f"postgresql://bastide:{SECRET} @db/attest",
        f"postgresql://bastide:x@db:{SECRET}/attest",
        f"postgresql://{SECRET}@db/" + "a" * 3000,
    ],
)
def test_refuses_what_is_no_such_url_without_showing_any_of_it(text: str) -> None:
    with pytest.raises(ConfigError, match=r"store\.database\.url") as caught:
        DatabaseUrl.parse(text)
    assert SECRET not in f"{caught.value}{caught.value.hint}{caught.value.where}{caught.value.__cause__}"


@pytest.mark.parametrize(
    "text",
    [
        f"postgresql://bastide:{SECRET}@db/attest",
        "postgresql://bastide:s%33cret@db/attest",
        f"postgresql:///attest?password={SECRET}",
        f"postgresql:///attest?sslpassword={SECRET}",
    ],
)
def test_tells_an_error_only_if_it_tells_no_password(text: str) -> None:
    url = DatabaseUrl.parse(text)
    assert url.told(ValueError(f"could not read {SECRET!r}")) == "ValueError"
    assert url.told(ValueError("could not read")) == "could not read"
    assert url.told(TimeoutError()) == "TimeoutError"
    assert SECRET not in repr(url)
