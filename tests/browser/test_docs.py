"The site of `make docs`, opened from disk with no network."
import pytest

from test_docs import built  # noqa: F401

from .conftest import axe


def test_viewer_plays_in_the_page(built, page):
    tab = page(offline=True)
    tab.goto((built[0]/"nbs"/"tutorials"/"01_see.html").as_uri())
    frame = tab.frame_locator(".bike-static iframe")
    tab.locator(".bike-static iframe").scroll_into_view_if_needed()
    frame.get_by_role("button", name="Play", exact=True).click()
    frame.get_by_role("button", name="Pause", exact=True).wait_for()
    theme = lambda: frame.locator(".bike-viewer").first.get_attribute("data-theme")
    assert theme() == "light"
    tab.evaluate("document.body.dataset.theme = 'dark'")
    frame.locator('.bike-viewer[data-theme="dark"]').wait_for()

def test_search_works_from_disk(built, page):
    tab = page(offline=True)
    tab.goto((built[0]/"index.html").as_uri())
    tab.get_by_placeholder("Search").first.fill("token_saliency")
    tab.keyboard.press("Enter")
    found = tab.locator("#search-results a", has_text="token_saliency").first
    found.wait_for()
    assert "Which frames show a concept?" in tab.locator("#search-results").inner_text()
    found.click()
    tab.get_by_text("Attention of every token over the frames").first.wait_for()

@pytest.mark.parametrize("width", [360, 1280])
def test_pages_fit_and_ask_for_nothing(built, page, width):
    tab = page(offline=True, width=width)
    for name in ("index.html", "docs/paper.html", "nbs/03_spotting.html", "nbs/tutorials/01_see.html", "api/spotting.html", "genindex.html"):
        tab.goto((built[0]/name).as_uri())
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
    assert not page.abroad

@pytest.mark.parametrize("dark", [False, True])
def test_pages_are_accessible(built, page, dark):
    tab, said = page(offline=True, dark=dark), page.complaints
    page.complaints = lambda: [s for s in said() if "XMLHttpRequest" not in s and "ERR_FAILED" not in s]  # axe asks for style sheets, which a page from disk may not
    for name in ("docs/paper.html", "nbs/03_spotting.html", "api/spotting.html"):
        tab.goto((built[0]/name).as_uri())
        assert not axe(tab), name
