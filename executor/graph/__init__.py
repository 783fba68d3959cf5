# SPDX-License-Identifier: BSD-3-Clause
"""Quantum graphs: the model in memory, the files that hold them, and what can be asked of them.

===================  ==========================================================================
module               subject
===================  ==========================================================================
`quantum_graph`      the graph in memory, and the jobs made from it
`yaml_graph`         graph files that a person writes: YAML, read with the place of every error
`graph_reader`       checks of the values in a YAML graph
`placed_yaml`        YAML whose values know their lines
===================  ==========================================================================

Nothing here runs on a worker: a worker is given a job, which is all that one quantum needs.
"""
