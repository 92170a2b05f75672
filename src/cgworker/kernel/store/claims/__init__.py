"""Operations on claims and the writes that a claim allows: one file per operation, around one fence.

Each statement contains the fence: the turn's row must have the claim's agent, the hash of its token, and a
lease that has not ended by the database's clock. A CHECK of the schema gives a turn these columns exactly
while it runs, so no statement has to compare the state as well. If a statement changes nothing, `fence.py`
finds out why.

Before the tables are analyzed, the planner may scan a whole project for a join on (project_id, turn_number).
`= any (array(...))` beside the join, and `limit 1` in a lateral subquery, force the primary-key lookup: the
array from PostgreSQL 17 on; before, once a table has some pages, and by then the kernel analyzes it. For
the same reason no statement here uses EXISTS on a large table: PostgreSQL may plan it as a hash over the
whole project, and keep that plan as the project grows.
"""
