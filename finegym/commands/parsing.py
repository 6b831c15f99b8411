"""A command's parser, made from its function: types from the signature, sentences from the docstring.

    def predict(videos: list[str], *, model: str, top_k: Count = 5) -> str:
        \"\"\"Classify videos.

        Args:
            videos: The files.
            model: The checkpoint.
            top_k: How many classes to show.

        Examples:
            finegym predict clip.mp4 --model outputs/synthgym/video_text
        \"\"\"

reads `finegym predict VIDEOS [VIDEOS ...] --model TEXT [--top_k N]`. What comes after the `*` is an option, a bool is
a flag, and a parameter of type `Recipe` takes `--config` and one option for each of a recipe's keys.
"""

import inspect
import textwrap
from collections.abc import Callable, Sequence
from types import NoneType
from typing import Any, NamedTuple, get_args, get_origin

import docstring_parser

from finegym.data.arguments import Parser
from finegym.training.recipe import Recipe
from finegym.training.recipe_parsing import RecipeParser


class Report(NamedTuple):
    """What a command prints, and its exit status."""

    text: str
    status: int = 0


def name_of(command: Callable) -> str:
    """Return how the command is typed: `import_` as `import`."""
    return command.__name__.removesuffix("_")


def summary_of(command: Callable) -> str:
    """Return the first line of the command's docstring."""
    return inspect.getdoc(command).partition("\n")[0]


def parse(command: Callable, arguments: Sequence[str], prog: str) -> dict[str, Any]:
    """Return the arguments of a command's function; after `--help` the program ends.

    Raises:
        UsageError: If an option is unknown, missing or of another type; the message names it.
    """
    signature = inspect.signature(command)
    recipe = next((name for name, parameter in signature.parameters.items() if parameter.annotation is Recipe), None)
    parser = build_parser(command, prog)
    values = parser.parse_args(arguments)
    found = {name: getattr(values, name) for name in signature.parameters if name != recipe}
    return found if recipe is None else found | {recipe: parser.recipe(values)}


def build_parser(command: Callable, prog: str) -> Parser:
    """Return the parser of a command."""
    text, _, examples = inspect.getdoc(command).partition("\nExamples:\n")
    doc = docstring_parser.parse(text)
    helps = {param.arg_name: " ".join(param.description.split()) for param in doc.params}
    parameters = inspect.signature(command).parameters.values()
    takes_recipe = any(parameter.annotation is Recipe for parameter in parameters)
    # dozens of keys would bury what matters in the line of usage
    usage = {"usage": f"{prog} --config RECIPE [--SECTION.KEY VALUE ...] [options]"} if takes_recipe else {}
    parser = (RecipeParser if takes_recipe else Parser)(
        prog=prog,
        description="\n\n".join(filter(None, (doc.short_description, doc.long_description))),
        epilog=f"examples:\n{textwrap.indent(textwrap.dedent(examples).rstrip(), '  ')}",
        **usage,
    )
    for parameter in parameters:
        if parameter.annotation is not Recipe:
            _add(parser, parameter, helps[parameter.name])
    parser.add_argument("--debug", action="store_true", help="Show where an error arose (as FINEGYM_DEBUG=1 does).")
    return parser


def _add(parser: Parser, parameter: inspect.Parameter, text: str) -> None:
    hint, default = parameter.annotation, parameter.default
    is_required = default is inspect.Parameter.empty
    if parameter.kind is parameter.KEYWORD_ONLY:
        if hint is bool:
            parser.add_argument(f"--{parameter.name}", action="store_true", help=text)
        elif is_required:
            parser.add_argument(f"--{parameter.name}", type=hint, required=True, help=text)
        else:
            parser.add_argument(f"--{parameter.name}", type=hint, default=default, help=text)
        return
    several = {"nargs": "+", "type": get_args(hint)[0]} if get_origin(hint) is list else {"type": hint}
    if not is_required:
        several |= {"nargs": "?", "default": default}
    elif NoneType in get_args(hint):
        several |= {"nargs": "?"}
    parser.add_argument(parameter.name, metavar=parameter.name.upper(), help=text, **several)
