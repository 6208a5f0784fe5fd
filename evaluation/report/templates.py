"""The templates of this folder; a page made of them needs no other file."""

import base64
import functools

import jinja2


@functools.cache
def environment() -> jinja2.Environment:
    """Where the templates of this folder are; everything put into them is escaped."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("evaluation.report", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def data_url(kind: str, content: bytes) -> str:
    """A file as an address that holds it, such as a picture's; `kind` is image/png or the like."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
