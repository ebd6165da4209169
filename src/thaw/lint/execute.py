"""Statements, in the abstract: what runs while a module is imported, and what is kept when that is over."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence

from thaw.lint.evaluate import DEPTH, Called, Evaluator
from thaw.lint.module import Module
from thaw.lint.rules import RULES
from thaw.lint.scope import Function, written
from thaw.lint.values import Source, Spot, Value, union

# A module whose import calls this many functions of the project is not looked into further.
CALLS = 20_000


class Frame:
    """One running body. At module level `local` is the module's own namespace."""

    def __init__(self, run: Import, module: Module, local: dict[str, Value], spot: Spot | None) -> None:
        self.module = module
        self.spot = spot
        self.outer = run.namespace(module)
        self.evaluator = Evaluator(run, module, local, self.outer, spot)
        self.globals: set[str] = set()
        self.returned: list[Value] = []
        self.branches = 0

    @property
    def local(self) -> dict[str, Value]:
        """Names of this body."""
        return self.evaluator.local

    def bind(self, name: str, value: Value) -> None:
        """An assignment. On a branch, what the name held before may still be there."""
        scope = self.outer if name in self.globals else self.local
        before = scope.get(name)
        if self.branches and before is not None and before is not value:
            value.sources |= before.everything()
        scope[name] = value


class Import:
    """Follows the import of one module. `modules` are those of the project, by dotted name."""

    def __init__(self, module: Module, modules: dict[str, Module]) -> None:
        self._module = module
        self._modules = modules
        self._namespaces: dict[str, dict[str, Value]] = {}
        self._stack: list[Function] = []
        self._calls = 0
        self.effects: list[tuple[Source, str]] = []
        self.kept: list[tuple[str, Value]] = []

    def namespace(self, module: Module) -> dict[str, Value]:
        """Global names of a module, as far as this import has set them."""
        return self._namespaces.setdefault(module.path, {})

    def follow(self) -> Iterator[tuple[Source, str]]:
        """Everything that is kept when the import is over: the source and the name of its keeper."""
        frame = Frame(self, self._module, self.namespace(self._module), None)
        self._body(self._module.tree.body, frame)
        yield from self.effects
        for name, value in [*self.namespace(self._module).items(), *self.kept]:
            for source in value.everything():
                yield source, name

    # --- evaluate.Following -------------------------------------------------------------------------------------------

    def found(self, source: Source, keeper: str) -> None:
        """Something that matters although nobody may hold it."""
        self.effects.append((source, keeper))

    def module_of(self, name: str) -> tuple[Module, str] | None:
        """The module of the project that has a function or class by its full name."""
        module, _, last = name.rpartition(".")
        found = self._modules.get(module)
        return (found, last) if found is not None else None

    def run_function(self, called: Called) -> Value:
        """What a function of the project returns when it is called during the import."""
        function = called.function
        self._calls += 1
        if function in self._stack or len(self._stack) >= DEPTH or self._calls > CALLS:
            return Value()
        frame = Frame(self, called.module, _bound(called), called.spot)
        if isinstance(function, ast.Lambda):
            return frame.evaluator.value(function.body)
        self._stack.append(function)
        self._body(function.body, frame)
        self._stack.pop()
        returned = _returned(frame)
        if _is_cached(function, called.module):
            self.kept.append((f"{function.name}.cache", returned))
        return returned

    # --- statements ---------------------------------------------------------------------------------------------------

    def _body(self, statements: Sequence[ast.stmt], frame: Frame) -> None:
        for statement in statements:
            handler: Callable[[ast.stmt, Frame], None] = _HANDLERS.get(type(statement), Import._other).__get__(self)
            handler(statement, frame)

    def _branch(self, statements: Sequence[ast.stmt], frame: Frame) -> None:
        frame.branches += 1
        self._body(statements, frame)
        frame.branches -= 1

    def _assign(self, node: ast.Assign, frame: Frame) -> None:
        value = frame.evaluator.value(node.value)
        for target in node.targets:
            self._target(target, value, node.value, frame)

    def _annotated(self, node: ast.AnnAssign, frame: Frame) -> None:
        if node.value is not None:
            self._target(node.target, frame.evaluator.value(node.value), node.value, frame)

    def _augmented(self, node: ast.AugAssign, frame: Frame) -> None:
        value = union([frame.evaluator.value(node.target), frame.evaluator.value(node.value)])
        self._target(node.target, value, None, frame)

    def _target(self, target: ast.expr, value: Value, node: ast.expr | None, frame: Frame) -> None:
        if isinstance(target, ast.Name):
            frame.bind(target.id, value)
        elif isinstance(target, (ast.Tuple, ast.List)):
            self._unpack(target, value, node, frame)
        elif isinstance(target, ast.Starred):
            self._target(target.value, value, None, frame)
        elif isinstance(target, ast.Attribute):
            self._set_attribute(target, value, frame)
        elif isinstance(target, ast.Subscript):
            self._set_item(target, value, frame)

    def _unpack(self, target: ast.Tuple | ast.List, value: Value, node: ast.expr | None, frame: Frame) -> None:
        """`a, b = 1, uuid4()` gives each its own."""
        if isinstance(node, (ast.Tuple, ast.List)) and len(node.elts) == len(target.elts):
            for one, part in zip(target.elts, node.elts, strict=True):
                self._target(one, frame.evaluator.value(part), part, frame)
        else:
            for one in target.elts:
                self._target(one, value, None, frame)

    def _set_attribute(self, target: ast.Attribute, value: Value, frame: Frame) -> None:
        owner = frame.evaluator.value(target.value)
        owner.attributes[target.attr] = value
        if frame.module.imports.full_name(target.value):  # an attribute of another module, or of a foreign class
            self.kept.append((f"{ast.unparse(target)}", value))

    def _set_item(self, target: ast.Subscript, value: Value, frame: Frame) -> None:
        if frame.module.imports.full_name(target.value):  # os.environ["ID"]
            self.kept.append((ast.unparse(target.value), value))
            return
        owner = frame.evaluator.value(target.value)
        owner.sources |= value.everything()
        name = written(target)
        if name and name not in frame.local and name not in frame.outer:
            frame.outer[name] = owner

    def _delete(self, node: ast.Delete, frame: Frame) -> None:
        for target in node.targets:
            if isinstance(target, ast.Name):
                frame.local.pop(target.id, None)

    def _if(self, node: ast.If, frame: Frame) -> None:
        if not _is_guard(node.test):
            frame.evaluator.value(node.test)
            self._branch(node.body, frame)
        self._branch(node.orelse, frame)

    def _for(self, node: ast.For | ast.AsyncFor, frame: Frame) -> None:
        self._target(node.target, frame.evaluator.value(node.iter), None, frame)
        self._branch([*node.body, *node.orelse], frame)

    def _while(self, node: ast.While, frame: Frame) -> None:
        frame.evaluator.value(node.test)
        self._branch([*node.body, *node.orelse], frame)

    def _try(self, node: ast.Try, frame: Frame) -> None:
        self._branch(node.body, frame)
        for handler in node.handlers:
            self._branch(handler.body, frame)
        self._branch(node.orelse, frame)
        self._body(node.finalbody, frame)

    def _with(self, node: ast.With | ast.AsyncWith, frame: Frame) -> None:
        """What a context manager gives is released at the block's end."""
        given = [frame.evaluator.value(item.context_expr) for item in node.items]
        for item, value in zip(node.items, given, strict=True):
            if item.optional_vars is not None:
                self._target(item.optional_vars, value, None, frame)
        self._body(node.body, frame)
        for value in given:
            value.end()

    def _return(self, node: ast.Return, frame: Frame) -> None:
        frame.returned.append(frame.evaluator.value(node.value))

    def _global(self, node: ast.Global | ast.Nonlocal, frame: Frame) -> None:
        if isinstance(node, ast.Global):
            frame.globals |= set(node.names)

    def _define(self, node: ast.FunctionDef | ast.AsyncFunctionDef, frame: Frame) -> None:
        for decorator in node.decorator_list:
            frame.evaluator.value(decorator)
        closure = frame.evaluator.closure(node)
        self.kept.append((f"{node.name}.__defaults__", frame.evaluator.defaults(node)))
        if frame.spot is not None or closure.sources:
            frame.bind(node.name, closure)

    def _class(self, node: ast.ClassDef, frame: Frame) -> None:
        """A class body runs at once, and what it binds are attributes of the class."""
        inner = Frame(self, frame.module, dict(frame.local) if frame.spot is not None else {}, frame.spot)
        before = dict(inner.local)
        self._body(node.body, inner)
        own = {name: value for name, value in inner.local.items() if before.get(name) is not value}
        if frame.spot is None:
            self.kept += [(f"{node.name}.{name}", value) for name, value in own.items()]

    def _expression(self, node: ast.Expr, frame: Frame) -> None:
        value = frame.evaluator.value(node.value)
        if isinstance(node.value, (ast.Yield, ast.YieldFrom)):
            frame.returned.append(value)

    def _match(self, node: ast.Match, frame: Frame) -> None:
        frame.evaluator.value(node.subject)
        for case in node.cases:
            self._branch(case.body, frame)

    def _other(self, node: ast.stmt, frame: Frame) -> None:
        """Imports, pass, raise, assert: nothing is bound that the rules are about."""


_HANDLERS: dict[type[ast.stmt], Callable[..., None]] = {
    ast.Assign: Import._assign,
    ast.AnnAssign: Import._annotated,
    ast.AugAssign: Import._augmented,
    ast.Delete: Import._delete,
    ast.If: Import._if,
    ast.For: Import._for,
    ast.AsyncFor: Import._for,
    ast.While: Import._while,
    ast.Try: Import._try,
    ast.TryStar: Import._try,
    ast.With: Import._with,
    ast.AsyncWith: Import._with,
    ast.Return: Import._return,
    ast.Global: Import._global,
    ast.Nonlocal: Import._global,
    ast.FunctionDef: Import._define,
    ast.AsyncFunctionDef: Import._define,
    ast.ClassDef: Import._class,
    ast.Expr: Import._expression,
    ast.Match: Import._match,
}


def _bound(called: Called) -> dict[str, Value]:
    """Parameters with what was passed for them."""
    parameters = called.function.args
    names = [one.arg for one in [*parameters.posonlyargs, *parameters.args]]
    given = [called.itself, *called.arguments] if called.itself is not None else called.arguments
    bound = dict(zip(names, given, strict=False))
    bound |= {name: value for name, value in called.named.items() if name != "**"}
    if parameters.vararg is not None:
        bound[parameters.vararg.arg] = union(given[len(names) :])
    return bound


def _returned(frame: Frame) -> Value:
    """One value for all returns; a single one stays what it is."""
    if len(frame.returned) == 1:
        return frame.returned[0]
    joined = union(frame.returned)
    joined.kind = next((value.kind for value in frame.returned if value.kind), "")
    return joined


def _is_cached(function: ast.FunctionDef | ast.AsyncFunctionDef, module: Module) -> bool:
    """Whether what it returned during the import is what it returns later, too."""
    decorators = (one.func if isinstance(one, ast.Call) else one for one in function.decorator_list)
    return any(module.imports.full_name(one) in ("functools.cache", "functools.lru_cache") for one in decorators)


def _is_guard(test: ast.expr) -> bool:
    """`if __name__ == "__main__"` and `if TYPE_CHECKING` do not run when a function is loaded."""
    text = ast.unparse(test)
    return text.endswith("TYPE_CHECKING") or "__name__ ==" in text or "== __name__" in text


def is_resource(source: Source) -> bool:
    """Whether closing it undoes the finding."""
    return RULES[source.code].resource
