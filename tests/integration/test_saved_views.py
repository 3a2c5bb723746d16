"""Views of the matrix that a user saves under a name."""

from __future__ import annotations

import pytest
from django.test import Client

from certification.models import SavedView, User
from certification.models.preferences import MAX_VIEWS

pytestmark = pytest.mark.django_db


def save(client: Client, query: str = "q=nova", **form: str) -> None:
    response = client.post(f"/matrix/views/?{query}", {"name": "Brazil", **form})
    assert response.status_code == 302


def page(client: Client, path: str = "/matrix/?view=all") -> str:
    return " ".join(client.get(path).content.decode().split())


def test_a_view_is_saved_and_listed(as_viewer: Client, catalogue: None) -> None:
    save(as_viewer, "geo=sa&capability=tools&page=3&select=1&nonsense=1&vendor=")
    view = SavedView.objects.get()
    assert (view.name, view.query) == ("Brazil", "geo=sa&capability=tools")
    html = page(as_viewer)
    assert 'href="/matrix/?geo=sa&amp;capability=tools"' in html
    assert "<bdi>Brazil</bdi>" in html


def test_the_same_name_is_replaced(as_viewer: Client, catalogue: None) -> None:
    save(as_viewer, "q=nova")
    save(as_viewer, "q=llama")
    assert SavedView.objects.get().query == "q=llama"


def test_the_matrix_begins_with_the_default_view(as_viewer: Client, catalogue: None) -> None:
    save(as_viewer, "q=nova", default="1")
    assert as_viewer.get("/matrix/").headers["Location"] == "/matrix/?q=nova"
    assert as_viewer.get("/matrix/?view=all").status_code == 200
    assert as_viewer.get("/matrix/", headers={"HX-Request": "true"}).status_code == 200
    save(as_viewer, "q=llama", name="Other", default="1")  # the only default now
    assert as_viewer.get("/matrix/").headers["Location"] == "/matrix/?q=llama"
    assert SavedView.objects.filter(is_default=True).count() == 1
    save(as_viewer, "", name="Other", default="1")
    assert as_viewer.get("/matrix/").headers["Location"] == "/matrix/?view=all"


def test_a_view_is_ones_own_unless_an_operator_shares_it(
    as_operator: Client, as_viewer: Client, catalogue: None
) -> None:
    save(as_operator, name="Private", default="1")
    save(as_operator, name="Team", shared="1", default="1")
    html = page(as_viewer)
    assert "<bdi>Team</bdi>" in html
    assert "Private" not in html
    assert as_viewer.get("/matrix/").status_code == 200  # another's default is not one's own
    save(as_viewer, name="Mine", shared="1")
    assert not SavedView.objects.get(name="Mine").is_shared  # viewers do not share


def test_only_the_owner_deletes_a_view(
    as_operator: Client, as_viewer: Client, catalogue: None
) -> None:
    save(as_operator, shared="1")
    path = f"/matrix/views/{SavedView.objects.get().pk}/delete/"
    assert as_viewer.post(path).status_code == 404
    assert path not in page(as_viewer)
    assert as_operator.get(path).status_code == 405
    assert path in page(as_operator)
    as_operator.post(path)
    assert not SavedView.objects.exists()


@pytest.mark.parametrize(
    ("query", "name", "words"),
    [
        ("q=nova", "  ", "Give the view a name."),
        ("&".join(f"region=r{n:05}" for n in range(300)), "Long", "too many filters"),
    ],
)
def test_what_cannot_be_saved_is_said(
    as_viewer: Client, catalogue: None, query: str, name: str, words: str
) -> None:
    response = as_viewer.post(f"/matrix/views/?{query}", {"name": name}, follow=True)
    assert words in response.content.decode()
    assert not SavedView.objects.exists()


def test_there_may_be_so_many(as_viewer: Client, viewer: User, catalogue: None) -> None:
    SavedView.objects.bulk_create(
        SavedView(user=viewer, page="matrix", name=f"View {n}") for n in range(MAX_VIEWS)
    )
    save(as_viewer)
    assert SavedView.objects.count() == MAX_VIEWS
    save(as_viewer, name="View 1")  # replaces one
    assert SavedView.objects.get(name="View 1").query == "q=nova"


def test_hostile_names_are_text(as_viewer: Client, catalogue: None) -> None:
    save(as_viewer, name='<script>"\x1b[0m', default="1")
    assert "<script>&quot;" not in page(as_viewer)
    assert "&lt;script&gt;&quot;" in page(as_viewer)
