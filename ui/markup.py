"""HTML as a tree of elements, so that every text in it is escaped: there is no way to put a string in as markup.

The standard library's ElementTree writes it. A template engine would do the same by a setting that a later template may forget,
and would be a further dependency of an agent that runs as root.
"""

from __future__ import annotations

from xml.etree.ElementTree import Element, tostring

from ui.units import plain

type Node = Element | str | None
"""An element, a text, or nothing."""


def el(tag: str, *children: Node, **attributes: str | float | None) -> Element:
    """Return an element; ``class_`` and ``for_`` stand for the words that Python keeps, ``_`` for ``-``, and None leaves one out."""
    made = Element(tag)
    for name, value in attributes.items():
        if value is not None:
            made.set(_attribute(name), plain(str(value)) if isinstance(value, str) else short(value))
    for child in children:
        _append(made, child)
    return made


def _attribute(name: str) -> str:
    return _AS_THEY_ARE.get(name, name.rstrip("_").replace("_", "-"))


_AS_THEY_ARE = {
    "viewBox": "viewBox",
    "preserveAspectRatio": "preserveAspectRatio",
    "http_equiv": "http-equiv",
}


def _append(parent: Element, child: Node) -> None:
    if child is None:
        return
    if not isinstance(child, str):
        parent.append(child)
        return
    # Characters that steer (controls, and those that turn the direction of writing) are shown as what they are not: harmless dots.
    words = "\n".join(plain(line) for line in child.split("\n"))
    if len(parent):
        parent[-1].tail = (parent[-1].tail or "") + words
    else:
        parent.text = (parent.text or "") + words


def short(value: float) -> str:
    """Return a number for an attribute: two decimals at most."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if value else "0"


def document(root: Element) -> str:
    """Return a whole page."""
    return "<!doctype html>\n" + tostring(root, encoding="unicode", method="html") + "\n"
