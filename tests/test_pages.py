"""Pages, read back with a parser that knows nothing of the template."""

import base64
import io
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from subspect.pages import MetricsTable, Row, Section, write_page


class Reader(HTMLParser):
    """Collects the text of cells, captions and headings, and every address a page refers to."""

    def __init__(self):
        super().__init__()
        self.texts, self.addresses, self._open = {}, [], []

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "img"):
            self._open.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href")]

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if data.strip():
            self.texts.setdefault(self._open[-1], []).append(data.strip())


def read(path):
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    return reader


def picture_of(address):
    prefix = "data:image/png;base64,"
    assert address.startswith(prefix)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.removeprefix(prefix)))))


@pytest.fixture
def page(tmp_path):
    rng = np.random.default_rng(0)
    pictures = {
        "input": rng.integers(0, 255, (20, 30, 3), dtype=np.uint8),
        "map": rng.random((20, 30)).astype(np.float32),
        "truth": rng.random((20, 30)) < 0.5,
    }
    tables = [
        MetricsTable("Near", ["image AUROC", "pixel AP"], {"warp": [0.98765, None], "shift": [1.0, np.nan]}),
        MetricsTable("Far", ["image AUROC"], {"hole": [0.5]}),
    ]
    sections = [
        Section("Fabric", "Woven.", tables, [Row("hole <1> & more", pictures)]),
        Section("Nothing", "", [], []),
    ]
    write_page(tmp_path / "page.html", "Two & a half", sections)
    return tmp_path / "page.html", pictures


def test_a_page_shows_its_titles_and_numbers(page):
    texts = read(page[0]).texts
    assert texts["h1"] == texts["title"] == ["Two & a half"]
    assert texts["h2"] == ["Fabric", "Nothing"]
    assert texts["h3"] == ["hole <1> & more"]
    assert texts["caption"] == ["Near, %", "Far, %"]
    assert texts["td"] == ["98.8", "–", "100.0", "–", "50.0"]
    assert texts["th"] == ["image AUROC", "pixel AP", "warp", "shift", "image AUROC", "hole"]
    assert texts["figcaption"] == ["input", "map", "truth"]


def test_pictures_are_within_the_page_and_nothing_else_is_needed(page):
    path, pictures = page
    addresses = read(path).addresses
    assert all(address.startswith(("data:", "#section-")) for address in addresses)
    shown = [picture_of(address) for address in addresses if address.startswith("data:")]
    np.testing.assert_array_equal(shown[0], pictures["input"])
    np.testing.assert_array_equal(shown[1][..., 0], np.rint(pictures["map"] * 255))
    np.testing.assert_array_equal(shown[2][..., 1], pictures["truth"] * 255)
    assert not any(word in path.read_text() for word in ("http://", "https://", "url(", "<script ", "@import"))


def test_large_pictures_are_shrunk_with_their_proportions(tmp_path):
    row = Row("large", {"input": np.zeros((500, 1000), dtype=np.uint8)})
    write_page(tmp_path / "page.html", "Large", [Section("One", "", [], [row])])
    assert picture_of(read(tmp_path / "page.html").addresses[0]).shape == (160, 320, 3)


def test_tables_that_do_not_fit_are_refused_before_anything_is_written(tmp_path):
    table = MetricsTable("Near", ["image AUROC"], {"warp": [0.5, 0.6]})
    with pytest.raises(ValueError, match=r"'warp' of table 'Near' has 2 values for 1 columns"):
        write_page(tmp_path / "page.html", "Wrong", [Section("One", "", [table], [])])
    assert list(tmp_path.iterdir()) == []
