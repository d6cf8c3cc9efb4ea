"""A strict reader of HTML pages."""

import re
from html.parser import HTMLParser


class Strict(HTMLParser):
    """A strict reader: every tag that opens must close, in order."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.words = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in {"meta", "link", "img", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    def all(self, tag, attribute):
        return [
            attributes[attribute] for name, attributes in self.tags if name == tag and attribute in attributes
        ]

    @property
    def text(self):
        return re.sub(r"\s+", " ", "".join(self.words))
