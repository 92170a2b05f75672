"""Everything that is written under a claim, one file per verb, around one fence.

The fence is inside each verb's statement: the agent, the token's hash, and a lease that has not ended, by
the database's clock. A turn has them exactly while it runs (a CHECK of the schema), so its state need not be
asked as well. A statement that changes nothing then asks `fence.py` why.

A plan may be made before there is anything to know about the tables, and then a join by project and number
looks no dearer by project alone. `= any (array(...))` beside a join, and `limit 1` in a lateral lookup, leave
the planner no other way than by the whole key.
"""
