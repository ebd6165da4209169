"""One source file, parsed: its imports, functions, classes, and which names its functions read."""

from __future__ import annotations

import ast
from functools import cached_property

from thaw.lint.hooks import Hooks
from thaw.lint.scope import Imports

_BODIES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


class Module:
    """`name` is dotted; `package` the dotted name that relative imports begin from. Raises SyntaxError."""

    def __init__(self, source: str, path: str, name: str = "", package: str = "") -> None:
        self.source = source
        self.path = path
        self.name = name
        self.tree = ast.parse(source, path)
        self.imports = Imports(self.tree, package)
        statements = _statements(self.tree)
        self.functions = {
            node.name: node for node in statements if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        }
        self.classes = {node.name: node for node in statements if isinstance(node, ast.ClassDef)}

    @cached_property
    def hooks(self) -> Hooks:
        """What its snapshot hooks make anew."""
        return Hooks(self.tree, self.imports)

    @cached_property
    def read_later(self) -> set[str]:
        """Names that some function or method reads: what calls may use."""
        inside = (body for body in ast.walk(self.tree) if isinstance(body, _BODIES))
        return {
            node.id
            for body in inside
            for node in ast.walk(body)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
        }

    @cached_property
    def has_handler(self) -> bool:
        """Whether a function looks like one that Lambda calls: two parameters, or called something with "handler"."""
        two = [(name, one.args.args[1].arg) for name, one in self.functions.items() if len(one.args.args) == 2]
        return any("handler" in name or second.strip("_") in ("context", "ctx") for name, second in two)

    def method(self, definition: ast.ClassDef, name: str) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
        """A method of a class of this module, or of its first base here that has it."""
        for node in definition.body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == name:
                return node
        for base in definition.bases:
            above = self.classes.get(base.id) if isinstance(base, ast.Name) else None
            if above is not None and above is not definition and (found := self.method(above, name)) is not None:
                return found
        return None


def _statements(tree: ast.Module) -> list[ast.stmt]:
    """Statements at module level, also those under `if` and `try`."""
    found: list[ast.stmt] = []
    left: list[ast.stmt] = list(tree.body)
    while left:
        node = left.pop(0)
        found.append(node)
        if isinstance(node, (ast.If, ast.Try, ast.With)):
            left += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]
            for handler in getattr(node, "handlers", []):
                left += handler.body
    return found
