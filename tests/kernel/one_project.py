"""Prove by reading a statement that it touches rows of one project only, with PostgreSQL's own parser.

Every table of the schema has a `project_id`. A table is bound where the statement says `project_id = $n`, or
that it equals the `project_id` of something that is bound: another table, a subquery or a CTE. All bound
tables of a statement then have rows of the one project that the parameter names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import pglast
from attrs import define, field, frozen
from pglast import ast, enums

COLUMN = "project_id"
WITHOUT_PROJECT = ("cg_migrations",)


@frozen
class Function:
    """A function of the schema; one with a parameter `project` is called with the project of its caller."""

    name: str
    parameters: tuple[str, ...]
    queries: tuple[Any, ...]


@define(eq=False)
class Relation:
    """What a FROM clause or a statement's target names: a table with a project_id, or rows made of such."""

    name: str
    is_table: bool
    is_bound: bool


Condition: TypeAlias = tuple[Any, "list[Relation]"]  # and the relations whose rows it narrows


@define
class Reader:
    """Reads one statement. `faults` then says what is not bound, `parameters` which one names the project."""

    functions: Mapping[str, Function]
    parameters: set[str] = field(factory=set)
    faults: list[str] = field(factory=list)
    arguments: tuple[str, ...] = ()

    def read(self, statement: Any) -> None:
        """Read a statement with all that it contains."""
        self._read(statement, [], {})
        if len(self.parameters) > 1:
            self.faults.append(f"two projects: {', '.join(sorted(self.parameters))}")

    # ------------------------------------------------------------ statements

    def _read(self, node: Any, outer: list[list[Relation]], ctes: Mapping[str, bool]) -> list[list[Relation]]:
        """Read a statement inside others; returns its scopes, in which its values are looked up."""
        ctes = dict(ctes)
        if clause := getattr(node, "withClause", None):
            for cte in clause.ctes:
                if clause.recursive:
                    ctes[cte.ctename] = True
                self._read(cte.ctequery, outer, ctes)
                ctes[cte.ctename] = self._gives(cte.ctequery, ctes)
        if is_a(node, ast.CopyStmt):
            return self._read(node.query, outer, ctes)
        if is_a(node, ast.SelectStmt) and node.larg:
            self._read(node.larg, outer, ctes)
            self._read(node.rarg, outer, ctes)
            return outer
        relations: list[Relation] = []
        conditions: list[Condition] = []
        subqueries: list[Any] = []
        for source in _sources(node):
            self._add(source, relations, conditions, subqueries, ctes)
        conditions += [(each, relations) for each in conjuncts_of(getattr(node, "whereClause", None))]
        scopes = [relations, *outer]
        self._bind(conditions, scopes)
        for relation in relations:
            if relation.is_table and not relation.is_bound and not is_a(node, ast.InsertStmt):
                self.faults.append(f"{relation.name} is bound to no project")
        for subquery in subqueries:
            self._read(subquery, scopes, ctes)
        for part in _own_parts(node):
            self._read_inside(part, scopes, ctes)
        if is_a(node, ast.InsertStmt):
            self._read_insert(node, outer, ctes)
        if is_a(node, ast.UpdateStmt) and COLUMN in {target.name for target in node.targetList}:
            self.faults.append(f"{node.relation.relname} gets another project")
        return scopes

    def _read_insert(self, node: Any, outer: list[list[Relation]], ctes: Mapping[str, bool]) -> None:
        scopes = self._read(node.selectStmt, outer, ctes)
        if node.relation.relname in WITHOUT_PROJECT:
            return
        place = next((at for at, column in enumerate(node.cols or ()) if column.name == COLUMN), None)
        rows = node.selectStmt.valuesLists or [[each.val for each in node.selectStmt.targetList or ()]]
        if place is None or not all(self._is_project(row[place], scopes) for row in rows):
            self.faults.append(f"a row of {node.relation.relname} is inserted into no certain project")

    def _read_inside(self, node: Any, scopes: list[list[Relation]], ctes: Mapping[str, bool]) -> None:
        """Read the statements and the calls inside an expression."""
        for each in _outermost(node, (ast.SelectStmt, ast.FuncCall)):
            if is_a(each, ast.FuncCall):
                self._check_call(each, scopes)
                self._read_inside(each.args, scopes, ctes)
            else:
                self._read(each, scopes, ctes)

    def _check_call(self, call: Any, scopes: list[list[Relation]]) -> None:
        name = call.funcname[-1].sval
        if name not in self.functions:
            return
        parameters = self.functions[name].parameters
        if "project" in parameters and not self._is_project(call.args[parameters.index("project")], scopes):
            self.faults.append(f"{name} is called for no certain project")

    # ------------------------------------------------------------ what is bound

    def _add(
        self,
        source: Any,
        relations: list[Relation],
        conditions: list[Condition],
        subqueries: list[Any],
        ctes: Mapping[str, bool],
    ) -> None:
        """Add what an item of a FROM clause names, the conditions of its joins, and its subqueries."""
        if is_a(source, ast.JoinExpr):
            left = len(relations)
            self._add(source.larg, relations, conditions, subqueries, ctes)
            right = len(relations)
            self._add(source.rarg, relations, conditions, subqueries, ctes)
            quals = [*conjuncts_of(source.quals)]
            if any(name.sval == COLUMN for name in source.usingClause or ()):
                quals += [_equal(relations[left].name, each.name) for each in relations[right:]]
            match source.jointype:
                case enums.JoinType.JOIN_INNER:
                    narrowed = relations[left:]
                case enums.JoinType.JOIN_LEFT:  # its condition narrows the rows on its right only
                    narrowed = relations[right:]
                case enums.JoinType.JOIN_FULL:
                    narrowed = []
                case _:
                    self.faults.append("a right join is not read")
                    return
            conditions += [(each, narrowed) for each in quals]
        elif is_a(source, ast.RangeVar):
            name, alias = source.relname, source.alias.aliasname if source.alias else source.relname
            if name in ctes:
                relations.append(Relation(alias, is_table=False, is_bound=ctes[name]))
            elif name.startswith("cg_") and name not in WITHOUT_PROJECT:
                relations.append(Relation(alias, is_table=True, is_bound=False))
        elif is_a(source, ast.RangeSubselect):
            subqueries.append(source.subquery)
            gives = self._gives(source.subquery, ctes)
            relations.append(Relation(source.alias.aliasname if source.alias else "", False, gives))
        else:
            assert is_a(source, ast.RangeFunction), source

    def _bind(self, conditions: list[Condition], scopes: list[list[Relation]]) -> None:
        """Mark the tables that the conditions bind, until none is added."""
        unbound = True
        while unbound:
            unbound = False
            for condition, narrowed in conditions:
                for one, other in _sides(condition):
                    table = self._unbound_table(one, scopes[0])
                    if table is not None and table in narrowed and self._is_project(other, scopes):
                        table.is_bound = unbound = True

    def _unbound_table(self, node: Any, relations: list[Relation]) -> Relation | None:
        """The table of this scope whose project_id this is, if it is bound by nothing yet."""
        qualifier = _qualifier_of_project(node)
        if qualifier is None:
            return None
        tables = [each for each in relations if each.is_table and qualifier in (each.name, "")]
        return tables[0] if len(tables) == 1 and not tables[0].is_bound else None

    def _is_project(self, node: Any, scopes: list[list[Relation]]) -> bool:
        """Whether a value is the statement's project: its parameter, or the column of something bound."""
        while is_a(node, ast.TypeCast):
            node = node.arg
        if is_a(node, ast.ParamRef):
            self.parameters.add(f"${node.number}")
            return True
        if is_a(node, ast.ColumnRef) and [getattr(each, "sval", "") for each in node.fields] == ["project"]:
            self.parameters.add("project")
            return "project" in self.arguments
        qualifier = _qualifier_of_project(node)
        if qualifier is None:
            return False
        for relations in scopes:
            named = [each for each in relations if qualifier in (each.name, "")]
            if named:
                return any(each.is_bound for each in named)
        return False

    def _gives(self, node: Any, ctes: Mapping[str, bool]) -> bool:
        """Whether a subquery has a column project_id that is the project of its tables, which are bound."""
        if is_a(node, ast.SelectStmt) and node.larg:
            return self._gives(node.larg, ctes) and self._gives(node.rarg, ctes)
        inner = Reader(self.functions)
        relations: list[Relation] = []
        for source in _sources(node):
            inner._add(source, relations, [], [], ctes)
        bound = [each.name for each in relations if each.is_table or each.is_bound]
        returning = getattr(node, "returningClause", None)
        targets = node.targetList if is_a(node, ast.SelectStmt) else getattr(returning, "exprs", ())
        for target in targets or ():
            value = target.val
            if is_a(value, ast.ParamRef) and target.name == COLUMN:
                return True
            if is_a(value, ast.ColumnRef) and (target.name or COLUMN) == COLUMN:
                parts = [getattr(part, "sval", "*") for part in value.fields]
                if parts[-1] in ("*", COLUMN) and (bound if len(parts) == 1 else parts[0] in bound):
                    return True
        return False


# ---------------------------------------------------------------- the tree


def is_a(node: Any, kinds: type | tuple[type, ...]) -> bool:
    """As isinstance; the nodes' own types say of each attribute that it may be None."""
    return isinstance(node, kinds)


def _sources(node: Any) -> list[Any]:
    target = [] if is_a(node, ast.SelectStmt) else [getattr(node, "relation", None)]
    more = getattr(node, "fromClause", None) or getattr(node, "usingClause", None) or ()
    return [each for each in [*target, *more] if each is not None]


def _own_parts(node: Any) -> list[Any]:
    """The parts of a statement with expressions; the subqueries of its FROM clause are read apart."""
    names = [name for name in node if name not in ("withClause", "selectStmt", "relation")]
    joins = [
        join for source in _sources(node) for join in _outermost(source, (ast.JoinExpr, ast.RangeFunction))
    ]
    parts = [getattr(node, name) for name in names if name not in ("fromClause", "usingClause")]
    return [*parts, *(part for join in joins for part in _of_join(join))]


def _of_join(node: Any) -> Iterator[Any]:
    if is_a(node, ast.JoinExpr):
        yield node.quals
        yield from _of_join(node.larg)
        yield from _of_join(node.rarg)
    elif is_a(node, ast.RangeFunction):
        yield node.functions


def _outermost(node: Any, kinds: tuple[type, ...]) -> Iterator[Any]:
    if is_a(node, kinds):
        yield node
    elif isinstance(node, tuple | list):
        for each in node:
            yield from _outermost(each, kinds)
    elif is_a(node, ast.Node):
        for name in node:
            yield from _outermost(getattr(node, name), kinds)


def conjuncts_of(node: Any) -> Iterator[Any]:
    if is_a(node, ast.BoolExpr) and node.boolop == enums.BoolExprType.AND_EXPR:
        for each in node.args:
            yield from conjuncts_of(each)
    elif node is not None:
        yield node


def _sides(node: Any) -> list[tuple[Any, Any]]:
    """Both readings of an equality; nothing for another condition."""
    if is_a(node, ast.A_Expr) and node.kind == enums.A_Expr_Kind.AEXPR_OP and node.name[-1].sval == "=":
        return [(node.lexpr, node.rexpr), (node.rexpr, node.lexpr)]
    return []


def _qualifier_of_project(node: Any) -> str | None:
    """Before the dot of `t.project_id`, empty without one; None for another expression."""
    if not is_a(node, ast.ColumnRef):
        return None
    parts = [getattr(part, "sval", "*") for part in node.fields]
    return None if parts[-1] != COLUMN else parts[0] if len(parts) == 2 else ""


def _equal(one: str, other: str) -> Any:
    return parse(f'select "{one}".{COLUMN} = "{other}".{COLUMN}')[0].targetList[0].val


# ---------------------------------------------------------------- text


def parse(sql: str) -> list[Any]:
    """The trees of a text of statements."""
    return [each.stmt for each in pglast.parse_sql(sql)]


def faults_of(sql: str, functions: Mapping[str, Function]) -> list[str]:
    """What a text of statements leaves unbound."""
    reader = Reader(functions)
    for statement in parse(sql):
        reader.read(statement)
    return reader.faults


def faults_of_function(function: Function, functions: Mapping[str, Function]) -> list[str]:
    """What the body of a function leaves unbound, called for its parameter `project`."""
    reader = Reader(functions, arguments=function.parameters)
    for query in function.queries:
        reader.read(query)
    return reader.faults


def functions_in(files: Iterable[str]) -> dict[str, Function]:
    """The functions that migrations create, in their last form."""
    found = {}
    for sql in files:
        for statement in pglast.parse_sql(sql):
            if is_a(statement.stmt, ast.CreateFunctionStmt):
                function = _function(statement.stmt, sql, statement)
                found[function.name] = function
    return found


def _function(node: Any, sql: str, statement: Any) -> Function:
    options = {option.defname: option.arg for option in node.options}
    body = options["as"][0].sval
    if options["language"].sval == "plpgsql":
        start = statement.stmt_location or 0
        text = sql.encode()[start : start + statement.stmt_len].decode() if statement.stmt_len else sql
        queries = [_parsed(query) for query in _queries(pglast.parse_plpgsql(text))]
    else:
        queries = parse(body)
    inputs = enums.FunctionParameterMode.FUNC_PARAM_TABLE
    names = tuple(each.name for each in node.parameters or () if each.mode != inputs)
    return Function(node.funcname[-1].sval, names, tuple(queries))


def _queries(found: Any) -> Iterator[str]:
    if isinstance(found, dict):
        if isinstance(query := found.get("query"), str):
            yield query
        for each in found.values():
            yield from _queries(each)
    elif isinstance(found, list):
        for each in found:
            yield from _queries(each)


def _parsed(query: str) -> Any:
    try:
        return parse(query)[0]
    except pglast.parser.ParseError:
        return parse(f"select {query}")[0]  # an expression, or an assignment `name := value`
