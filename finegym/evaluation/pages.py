"""Pages of one file that need no network: what their templates share is in `page_template.html`."""

from pathlib import Path
from typing import Any


FOLDER = Path(__file__).parent


def render_page(template: Path, **values: Any) -> str:
    """Fill in a template that extends `page_template.html`; every text in it is escaped.

    Args:
        template: The template.
        values: What it names. A name without a value is an error.
    """
    import jinja2  # imported only to draw

    loader = jinja2.FileSystemLoader([template.parent, FOLDER])
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.get_template(template.name).render(**values)
