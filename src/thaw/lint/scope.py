"""Which module-level name means which function of which module: imports, aliases, attribute chains."""

from __future__ import annotations

import ast

from thaw.lint import rules

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda

# The same thing under another name.
_SYNONYMS = {
    "np.random": "numpy.random",
    "numpy.random.mtrand": "numpy.random",
    "concurrent.futures.thread.ThreadPoolExecutor": "concurrent.futures.ThreadPoolExecutor",
    "concurrent.futures.process.ProcessPoolExecutor": "concurrent.futures.ProcessPoolExecutor",
    "multiprocessing.context.Process": "multiprocessing.Process",
    "multiprocessing.process.Process": "multiprocessing.Process",
    "redis.client.Redis": "redis.Redis",
    "datetime.date.now": "datetime.date.today",
}


class Imports:
    """The imports of one module, those inside functions included (a name rarely means two modules)."""

    def __init__(self, tree: ast.Module, package: str = "") -> None:
        self.names: dict[str, str] = {}
        self.modules: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                self._add_import(node)
            elif isinstance(node, ast.ImportFrom):
                self._add_from(node, package)

    def _add_import(self, node: ast.Import) -> None:
        for alias in node.names:
            self.modules.add(alias.name)
            if alias.asname:
                self.names[alias.asname] = alias.name
            else:
                self.names[alias.name.partition(".")[0]] = alias.name.partition(".")[0]

    def _add_from(self, node: ast.ImportFrom, package: str) -> None:
        base = node.module or ""
        if node.level:
            parents = package.split(".") if package else []
            kept = parents[: len(parents) - node.level + 1]
            base = ".".join([*kept, *([base] if base else [])])
        for alias in node.names:
            if alias.name == "*":
                self.modules.add(base)
                self._add_all(base)
                continue
            full = f"{base}.{alias.name}" if base else alias.name
            self.modules |= {base, full}
            self.names[alias.asname or alias.name] = full

    def _add_all(self, base: str) -> None:
        """`from uuid import *`: the names that the rules know."""
        for full in rules.NAMES | rules.READS_VARIABLE:
            module, _, name = full.rpartition(".")
            if module == base:
                self.names.setdefault(name, full)

    def full_name(self, node: ast.expr) -> str:
        """`np.random.rand` is "numpy.random.rand"; "" for what does not begin with an import."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name) or node.id not in self.names:
            return ""
        return synonym(".".join([self.names[node.id], *reversed(parts)]))


# Folders into which people copy packages.
_VENDORED = ("vendor.", "vendored.", "_vendor.", "third_party.", "libs.", "lib.")


def without_vendor(name: str) -> str:
    """`vendor.pymysql.connect` is "pymysql.connect"."""
    return next((name[len(folder) :] for folder in _VENDORED if name.startswith(folder)), name)


def synonym(name: str) -> str:
    """The name under which the rules know it."""
    for other, known in _SYNONYMS.items():
        if name == other or name.startswith(other + "."):
            return known + name[len(other) :]
    return name


def written(node: ast.expr) -> str:
    """The root name of a target or receiver: `state` for `state.items[0]`; "" where there is none."""
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Starred)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""
