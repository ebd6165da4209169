"""Expressions, in the abstract: what a value that is made while a module is imported may hold."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Protocol

from thaw.lint import rules
from thaw.lint.module import Module
from thaw.lint.scope import Function, synonym, without_vendor, written
from thaw.lint.values import Source, Spot, Value, union

# Deeper chains of calls are rare, and each level costs.
DEPTH = 8
# Of a call of a function that is not of the project, arguments are in the result where its name is one of these, or
# begins with one, or is a class by its capital.
_PURE = frozenset(
    [
        "abs", "bytearray", "bytes", "copy", "deepcopy", "dict", "enumerate", "filter", "float", "frozenset", "hash",
        "int", "iter", "list", "map", "max", "min", "next", "repr", "reversed", "round", "set", "sorted", "str", "sum",
        "tuple", "zip",
    ]
)  # fmt: skip
_PURE_MODULES = (
    "ast.",
    "asyncio.run",
    "base64.",
    "datetime.",
    "functools.",
    "hashlib.",
    "json.",
    "os.path.",
    "urllib.parse.",
)
# Methods of event loops and runners that give what the coroutine returns.
_RUN = frozenset(["run_until_complete", "create_task"])


@dataclass(frozen=True, slots=True)
class Called:
    """A call of a function of the project: `spot` is where the import reaches it, `itself` the object of a method."""

    spot: Spot
    module: Module
    function: Function
    arguments: list[Value]
    named: dict[str, Value]
    itself: Value | None = None


class Following(Protocol):
    """What runs the statements of a function of the project (`execute.Import`)."""

    def run_function(self, called: Called) -> Value: ...

    def module_of(self, name: str) -> tuple[Module, str] | None: ...

    def found(self, source: Source, keeper: str) -> None: ...


class Evaluator:
    """Evaluates within one frame: names are looked up in `local`, then in `outer` (the module's)."""

    def __init__(
        self, following: Following, module: Module, local: dict[str, Value], outer: dict[str, Value], spot: Spot | None
    ) -> None:
        self._following = following
        self._module = module
        self.local = local
        self.outer = outer
        self._spot = spot

    def spot(self, node: ast.AST) -> Spot:
        """Where the import reaches a node: its own place, or inside a function the place of the call that led there."""
        if self._spot is not None:
            return self._spot
        line, column = getattr(node, "lineno", 1), getattr(node, "col_offset", 0)
        return Spot(self._module.path, line, column + 1, getattr(node, "end_lineno", None) or line)

    def value(self, node: ast.expr | None) -> Value:
        """The value of an expression; unknown ones hold nothing."""
        if node is None or isinstance(node, ast.Constant):
            return Value()
        if isinstance(node, ast.Compare):
            return self._comparison(node)
        if isinstance(node, ast.Name):
            return self._name(node.id)
        if isinstance(node, ast.Attribute):
            return self._attribute(node)
        if isinstance(node, ast.Call):
            return self._call(node)
        if isinstance(node, ast.Lambda):
            return Value(self._captured(node), function=node)
        if isinstance(node, ast.NamedExpr):
            self.local[node.target.id] = result = self.value(node.value)
            return result
        if isinstance(node, (ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp)):
            return self._comprehension(node)
        if isinstance(node, (ast.Await, ast.Starred)):
            return self.value(node.value)
        if isinstance(node, ast.Subscript) and self._reads_secret_variable(node):
            return Value({self._source("TS131", "os.environ", node)})
        return union([self.value(child) for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)])

    def _reads_secret_variable(self, node: ast.Subscript) -> bool:
        return self._module.imports.full_name(node.value) == "os.environ" and _is_secret_variable(node.slice)

    def _comparison(self, node: ast.Compare) -> Value:
        """Of what is compared the result holds nothing, unless it was decided by lot."""
        compared = union([self.value(one) for one in (node.left, *node.comparators)])
        return Value({source for source in compared.sources if source.code == "TS101"})

    def _name(self, name: str) -> Value:
        for scope in (self.local, self.outer):
            if name in scope:
                return scope[name]
        if (function := self._module.functions.get(name)) is not None:
            return Value(function=function)
        return Value(means=self._module.imports.names.get(name, ""))

    def _attribute(self, node: ast.Attribute) -> Value:
        if full := self._module.imports.full_name(node):
            return Value(means=full)
        owner = self.value(node.value)
        return owner.attributes.get(node.attr) or Value(set(owner.sources))

    def _captured(self, node: ast.Lambda | ast.FunctionDef | ast.AsyncFunctionDef) -> set[Source]:
        """A closure keeps the local values that it names; those of the module are kept anyway."""
        names = {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
        return union(self.local[name] for name in names & self.local.keys() if self._spot is not None).sources

    def closure(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> Value:
        """A function that is defined while the import runs."""
        return Value(self._captured(node), function=node)

    def defaults(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> Value:
        """Defaults of parameters are evaluated where the function is defined, and kept by it."""
        given = [*node.args.defaults, *(one for one in node.args.kw_defaults if one is not None)]
        return union([self.value(one) for one in given])

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> Value:
        inner = Evaluator(self._following, self._module, dict(self.local), self.outer, self._spot)
        for generator in node.generators:
            items = inner.value(generator.iter)
            for name in ast.walk(generator.target):
                if isinstance(name, ast.Name):
                    inner.local[name.id] = items
        parts = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        return union([inner.value(part) for part in parts])

    # --- calls --------------------------------------------------------------------------------------------------------

    def _call(self, node: ast.Call) -> Value:
        full = self._called(node.func)
        if (bare := without_vendor(full)) in rules.NAMES:
            full = bare
        arguments = [self.value(one) for one in node.args]
        named = {one.arg or "**": self.value(one.value) for one in node.keywords}
        if full in rules.SEEDS and not _is_constant(node):
            self._following.found(self._source("TS103", full, node), "")
        if full in rules.SHUFFLES and node.args:
            self.value(node.args[0]).sources.add(self._source("TS101", full, node))
        if full in rules.READS_VARIABLE and node.args and _is_secret_variable(node.args[0]):
            return Value({self._source("TS131", full, node)})
        if code := _code_of_call(full, node):
            # A connection holds the secret that opened it, but the finding is the connection.
            return Value({self._source(code, full, node)}, kind=full)
        if full in rules.KINDS or full in rules.GENERATORS:
            return Value(kind=full)
        if full:
            return self._foreign(node, full, arguments, named)
        if isinstance(node.func, ast.Attribute):
            return self._method(node, node.func, arguments, named)
        return self._plain(node, arguments, named)

    def _source(self, code: str, call: str, node: ast.AST) -> Source:
        return Source(code, call, getattr(node, "lineno", 1), self.spot(node))

    def _called(self, function: ast.expr) -> str:
        """The full name of a foreign function, also by a name that the module gave it (`now = datetime.now`)."""
        if isinstance(function, ast.Name) and (meant := self._name(function.id).means):
            return synonym(meant)
        return self._module.imports.full_name(function)

    def _foreign(self, node: ast.Call, full: str, arguments: list[Value], named: dict[str, Value]) -> Value:
        """A call of another module's function: followed where that module is of the project."""
        if (found := self._following.module_of(full)) is not None:
            module, name = found
            return self._of_project(module, name, node, arguments, named)
        last = full.rpartition(".")[2]
        if isinstance(node.func, ast.Attribute) and _is_secret(node, node.func.attr):
            return Value({self._source("TS131", full, node)})
        if full.startswith(_PURE_MODULES) or last in _PURE or last[:1].isupper() or full.startswith("boto3."):
            return union([*arguments, *named.values()])
        return Value()

    def _of_project(
        self, module: Module, name: str, node: ast.Call, arguments: list[Value], named: dict[str, Value]
    ) -> Value:
        spot = self.spot(node)
        if (function := module.functions.get(name)) is not None:
            return self._following.run_function(Called(spot, module, function, arguments, named))
        if (definition := module.classes.get(name)) is None:
            return Value()
        bases = [module.imports.full_name(base) for base in definition.bases]
        # A class of the project that is a Thread starts like one.
        made = Value(instance=definition, kind=next((base for base in bases if base in rules.KINDS), ""))
        if (initialiser := module.method(definition, "__init__")) is not None:
            self._following.run_function(Called(spot, module, initialiser, arguments, named, made))
        else:
            made.sources |= union([*arguments, *named.values()]).sources
        return made

    def _plain(self, node: ast.Call, arguments: list[Value], named: dict[str, Value]) -> Value:
        """A call by a bare name, or of something that is not a name at all."""
        if isinstance(node.func, ast.Name):
            name = node.func.id
            if name not in self.local and (name in self._module.functions or name in self._module.classes):
                return self._of_project(self._module, name, node, arguments, named)
            function = self._name(name).function
            if function is not None:
                called = Called(self.spot(node), self._module, function, arguments, named)
                return self._following.run_function(called)
            if name in _PURE or name[:1].isupper():
                return union([*arguments, *named.values()])
            return Value()
        made = self.value(node.func)
        if made.function is not None:
            return self._following.run_function(Called(self.spot(node), self._module, made.function, arguments, named))
        return Value(made.everything())

    def _method(
        self, node: ast.Call, function: ast.Attribute, arguments: list[Value], named: dict[str, Value]
    ) -> Value:
        receiver, name = self.value(function.value), function.attr
        self._starts_or_ends(node, function, receiver)
        if _is_secret(node, name):
            return Value({self._source("TS131", name, node)})
        if receiver.kind in rules.GENERATORS and name not in ("seed", "shuffle", "setstate"):
            return Value({self._source("TS101", f"{receiver.kind}().{name}", node)})
        if receiver.instance is not None:
            method = self._module.method(receiver.instance, name)
            if method is not None:
                called = Called(self.spot(node), self._module, method, arguments, named, receiver)
                return self._following.run_function(called)
        if name in _RUN:
            return union(arguments)
        if name in ("append", "add", "update", "extend", "insert", "setdefault", "put"):
            self._put(receiver, written(function.value), union([*arguments, *named.values()]))
            return Value()
        given = union([*arguments, *named.values()]) if isinstance(function.value, ast.Constant) else Value()
        return Value(receiver.everything() | given.sources, kind=_kept_kind(receiver.kind, name))

    def _put(self, receiver: Value, name: str, content: Value) -> None:
        """A container holds what is put into it."""
        receiver.sources |= content.sources
        if name and name not in self.local and name not in self.outer:
            self.outer[name] = receiver

    def _starts_or_ends(self, node: ast.Call, function: ast.Attribute, receiver: Value) -> None:
        name = function.attr
        if (code := rules.STARTS.get((receiver.kind, name))) is not None:
            source = self._source(code, f"{receiver.kind}().{name}", node)
            receiver.sources.add(source)
            if code != "TS141":  # a thread runs on though nobody holds it
                self._following.found(source, written(function.value))
        elif name in rules.ENDS:
            receiver.end()


def _code_of_call(full: str, node: ast.Call) -> str | None:
    """The rule that a call's result falls under."""
    if full in rules.LAZY_WITHOUT_HOST and not node.args and not node.keywords:
        return None
    if full in rules.GENERATORS:
        return None if _is_constant(node) or _wraps_another(full, node) else "TS102"
    if (code := rules.CALLS.get(full)) is not None:
        return code
    if (moment := rules.WITHOUT_ARGUMENTS.get(full)) is not None and len(node.args) < moment[1]:
        return moment[0]
    return None


def _is_constant(node: ast.Call) -> bool:
    """Whether a seed is given as constants, which means that repetition is wanted."""
    given = [*node.args, *(one.value for one in node.keywords)]
    return bool(given) and all(
        isinstance(part, (ast.Constant, ast.UnaryOp, ast.List, ast.Tuple, ast.operator, ast.unaryop, ast.expr_context))
        and not (isinstance(part, ast.Constant) and part.value is None)
        for one in given
        for part in ast.walk(one)
    )


def _wraps_another(full: str, node: ast.Call) -> bool:
    """`Generator(PCG64())`: what it wraps is reported."""
    return full == "numpy.random.Generator" and bool(node.args)


def _is_secret(node: ast.Call, name: str) -> bool:
    if name in rules.SECRET_METHODS:
        return True
    decrypted = {"WithDecryption", "decrypt"}
    return name in rules.PARAMETER_METHODS and any(
        one.arg in decrypted and isinstance(one.value, ast.Constant) and one.value.value is True
        for one in node.keywords
    )


def _is_secret_variable(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value in rules.SECRET_VARIABLES


def _kept_kind(kind: str, method: str) -> str:
    """What `with pool() as p` or `Thread(...)` chained with a method still is: only a context's entering keeps it."""
    return kind if method == "__enter__" else ""
