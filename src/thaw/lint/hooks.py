"""What a module's snapshot hooks make anew: that is no finding."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from thaw.lint.rules import ENDS, HOOKS_AFTER, HOOKS_BEFORE, SEEDS
from thaw.lint.scope import Function, Imports, written


class Hooks:
    """`renewed`: names that an after-restore hook sets, or calls a method of; `ended`: names that a before-snapshot
    hook closes; `seeds`: whether an after-restore hook seeds the global generators."""

    def __init__(self, tree: ast.Module, imports: Imports) -> None:
        self._imports = imports
        self._functions = {
            node.name: node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        }
        self.renewed: set[str] = set()
        self.ended: set[str] = set()
        self.seeds = False
        before, after = self._registered(tree, HOOKS_BEFORE), self._registered(tree, HOOKS_AFTER)
        for function in self._with_callees(after):
            self._read_after(function)
        for function in self._with_callees(before):
            self._read_before(function)

    def _registered(self, tree: ast.Module, names: frozenset[str]) -> list[Function]:
        """Functions under a decorator, and those that are passed to it; a bound method renews its object."""
        found: list[Function] = []
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                found += [node for one in node.decorator_list if self._imports.full_name(one) in names]
            elif isinstance(node, ast.Call) and self._imports.full_name(node.func) in names and node.args:
                found += self._passed(node.args[0], renews=names is HOOKS_AFTER)
        return found

    def _passed(self, argument: ast.expr, *, renews: bool) -> Iterator[Function]:
        if isinstance(argument, ast.Lambda):
            yield argument
        elif isinstance(argument, ast.Name) and argument.id in self._functions:
            yield self._functions[argument.id]
        elif isinstance(argument, ast.Attribute):
            (self.renewed if renews else self.ended).add(written(argument))

    def _with_callees(self, functions: list[Function]) -> list[Function]:
        found: list[Function] = []
        left = list(functions)
        while left:
            function = left.pop()
            if function in found:
                continue
            found.append(function)
            called = {node.func.id for node in _calls(function) if isinstance(node.func, ast.Name)}
            left += [self._functions[name] for name in called if name in self._functions]
        return found

    def _read_after(self, function: Function) -> None:
        self.renewed |= _assigned(function)
        for call in _calls(function):
            if self._imports.full_name(call.func) in SEEDS:
                self.seeds = True
            elif isinstance(call.func, ast.Attribute):
                self.renewed.add(written(call.func))

    def _read_before(self, function: Function) -> None:
        self.ended |= _assigned(function)
        for call in _calls(function):
            if isinstance(call.func, ast.Attribute) and call.func.attr in ENDS:
                self.ended.add(written(call.func))


def _calls(function: Function) -> Iterator[ast.Call]:
    return (node for node in ast.walk(function) if isinstance(node, ast.Call))


def _assigned(function: Function) -> set[str]:
    """Global names that a function sets, also parts of them."""
    declared = {name for node in ast.walk(function) if isinstance(node, ast.Global) for name in node.names}
    found: set[str] = set()
    for node in ast.walk(function):
        if isinstance(node, (ast.Assign, ast.Delete)):
            targets = node.targets
        elif isinstance(node, (ast.AugAssign, ast.AnnAssign)):
            targets = [node.target]
        else:
            continue
        for target in targets:
            for one in target.elts if isinstance(target, (ast.Tuple, ast.List)) else [target]:
                if not isinstance(one, ast.Name) or one.id in declared:
                    found.add(written(one))
    return found
