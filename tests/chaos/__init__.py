# SPDX-License-Identifier: BSD-3-Clause
"""Chaos: three mergers while everything around them fails, and what must come of it all the same.

``python -m tests.chaos --seeds 20`` tries seeds one after another. Each has a survey of deltas,
made from the seed together with what a merge must make of it; mergers as real processes, which
are started again whenever they end; faults that strike in the middle of a transaction; deltas
that appear meanwhile, in any order, and people who archive the RUN and forget quanta of it. In
the end the tables are compared row for row with those of one undisturbed merge and of merges in
another order, and ledger, conflicts and quarantine with the plan.

============  ====================================================================================
module        subject
============  ====================================================================================
`survey`      objects of a RUN, and what is planned for them
`recipes`     what can happen to a quantum: repeated, in conflict, damaged, ordinary
`places`      the datastore of a seed, in a directory and perhaps in a bucket
`bucket`      an S3 server in a process of its own
`network`     TCP proxies that cut, freeze, slow, and hold what a fault waits for
`mergers`     mergers, started again and again, and how each ended
`faults`      what is done to mergers, PostgreSQL and network
`outcome`     what a registry has come to, against the plan
`trial`       one seed
============  ====================================================================================

Not in the plan: one attempt id of two quanta whose deltas appear one after the other. Ids are
UUIDs of version 7, so it takes a forger; the delta that is merged first then has the ledger row.
"""
