"""The page in a real browser: typed, clicked and read aloud; its address; and text that wants to be more."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from support.browser import Browser, Page
from support.serving import Server

from selfalign_cli.search.index import Index

QUERY = "a red star left of a zebra"


@pytest.fixture
def page(browser: Browser, server: Server) -> Page:
    return browser.page().open(server.address)


def searched(page: Page, text: str = QUERY) -> Page:
    """Typed into the box, and sent by Enter."""
    page.run("document.querySelector('#q').focus()")
    page.run("document.querySelector('#q').select()")
    page.type(text)
    page.press("Enter")
    page.until("document.querySelectorAll('#hits button').length > 0 && !document.title.startsWith('selfalign')")
    return page


def test_a_search(page: Page, server: Server):
    page.until("document.querySelector('#status').textContent.includes('67 pictures')")
    searched(page)
    found = server.api("search", q=QUERY, k=48)
    assert page.count("#hits button") == 48
    assert page.text("#hits button .foot span:last-child") == f"{found['hits'][0]['score']:.3f}"
    assert page.text("#status").startswith("48 of 67 pictures, ")
    assert page.text("#status").endswith("unknown to the model: zebra")
    assert page.run("location.search") == "?q=a+red+star+left+of+a+zebra"
    below = [hit for hit in found["hits"] if hit["score"] < found["unrelated"]]
    assert (page.count("#hits .below"), page.count("#hits .line")) == (len(below), 1 if below else 0)
    page.click("#more")
    page.until("document.querySelectorAll('#hits button').length === 67")
    assert page.run("document.querySelector('#more').hidden")
    assert page.run("document.querySelectorAll('#hits img[loading=lazy]').length") > 0
    scores = page.run("[...document.querySelectorAll('#hits .foot span:last-child')].map(e => Number(e.textContent))")
    assert scores == sorted(scores, reverse=True)
    assert all(address.startswith(server.address) for address in page.requests)


def test_a_picture_and_why(page: Page, server: Server):
    searched(page)
    first = server.api("search", q=QUERY, k=2)["hits"]
    page.click("#hits button")
    page.until("document.querySelectorAll('#matrix tbody tr').length === 10")
    why = server.api("explain", row=first[0]["row"], q=QUERY)
    assert page.text("#one-score") == f"score {why['score']:.3f} with “{QUERY}”"
    assert page.run("[...document.querySelectorAll('#words button')].map(b => b.textContent)") == why["words"]
    assert page.count("#stage .box") == 10
    assert page.text("#words .unknown") == "zebra"
    page.click("#words button:nth-child(3)")
    page.until("document.querySelectorAll('#words button[aria-pressed=false]').length === 1")
    without = server.api("explain", row=first[0]["row"], q=QUERY, off="2")
    page.until(f"document.querySelector('#words-note').textContent.includes('{without['score']:.3f}')")
    assert page.run("location.search").endswith(f"p={first[0]['row']}&off=2")
    page.click("#matrix thead th:nth-child(4) button")
    assert page.text("#shown") == "What each region and “red” add together."
    page.run("document.querySelector('#close').focus()")
    page.press("ArrowRight")
    page.until(f"location.search.includes('p={first[1]['row']}')")
    page.press("Escape")
    page.until("!document.querySelector('dialog').open")
    assert page.run("location.search") == "?q=a+red+star+left+of+a+zebra"


def test_the_address_says_what_is_seen(browser: Browser, server: Server, index: Path):
    row = Index.open(index).row_of("plain.png")
    page = browser.page().open(f"{server.address}/?q={quote(QUERY)}&p={row}&off=0")
    page.until("document.querySelectorAll('#words button[aria-pressed=false]').length === 1")
    assert page.text("#one-title") == "plain.png"
    assert page.run("document.querySelector('#q').value") == QUERY
    page.until("document.querySelector('#captions button')")
    assert page.run("!document.querySelector('.legend').hidden")
    page.click("#captions button")  # its first caption explains it in place of the query
    page.until("document.querySelector('#one-score').textContent.includes('a red star left of a ring')")
    page.click("#similar")
    page.until("document.querySelector('#like').textContent === 'Pictures like plain.png'")
    page.until("document.querySelectorAll('#hits button').length === 48")
    page.run("history.back()")
    page.until("document.querySelector('dialog').open")
    page.run("history.go(-1)")
    page.until("document.querySelector('#one-score').textContent.includes('zebra')")
    assert [fault for fault in page.faults if "/picture/" not in fault] == []  # most pictures are not there


def test_hostile_names_and_captions_are_text(browser: Browser, server: Server, index: Path):
    row = Index.open(index).row_of("<img src=x onerror=document.title='owned'>")
    text = "<img src=x onerror=\"document.title='owned'\"> ring"
    page = browser.page().open(f"{server.address}/?q={quote(text)}&p={row}")
    page.until("document.querySelectorAll('#captions button').length > 1")
    page.until("document.querySelectorAll('#matrix td').length > 10")
    assert page.text("#one-title") == "<img src=x onerror=document.title='owned'>"
    assert page.text("#captions button").startswith("<script>document.title='owned'</script>")
    assert page.run("document.title") == f"{text} · selfalign"
    assert page.count("img:not([src^='/picture/'])") == page.count("script:not([src])") == 0
    assert [fault for fault in page.faults if "/picture/" not in fault] == []  # it is not there


def test_it_is_read_aloud(page: Page, server: Server):
    searched(page)
    spoken = page.spoken()
    names = [name for role, name in spoken if role == "button"]
    hit = server.api("search", q=QUERY, k=1)["hits"][0]
    assert f"1. {hit['captions'][0]}, score {hit['score']:.3f}" in names
    assert ("searchbox", "What the picture shows") in spoken
    assert {role for role, _ in spoken} >= {"search", "status", "list", "banner", "main"}
    page.click("#hits button")
    page.until("document.querySelectorAll('#matrix td').length > 10")
    spoken = page.spoken()
    assert any(role == "dialog" and name for role, name in spoken)
    assert {name for role, name in spoken if role == "columnheader"} >= {"region", "whole caption", "star"}
    assert all(name for role, name in spoken if role == "button")


def test_pictures_that_are_not_there(browser: Browser, server: Server):
    page = browser.page().open(f"{server.address}/?q=a%20ring")
    page.until("document.querySelectorAll('#hits .none').length > 0")
    assert page.text("#hits .none") == "picture not there"


def test_an_empty_question_asks_nothing(page: Page):
    page.run("document.querySelector('#q').focus()")
    page.press("Enter")
    assert page.run("location.search") == ""
    assert page.faults == []
