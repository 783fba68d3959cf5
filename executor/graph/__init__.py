# SPDX-License-Identifier: BSD-3-Clause
"""Quantum graphs: the model in memory, the files that hold them, and what can be asked of them.

=====================  ========================================================================
module                 subject
=====================  ========================================================================
`quantum_graph`        the graph in memory, and the jobs made from it
`graph_file`           a graph from a file of either form
`graph_forms`          a graph as columns or as objects, from files and into them
`graph_header`         what all quanta of a graph share, checked
`yaml_graph`           graph files that a person writes: YAML, read with the place of every error
`graph_reader`         checks of single values, which name their place
`placed_yaml`          YAML whose values know their lines
`yaml_output`          a graph as YAML that reads back equal
`given_ids`            what a file must say beyond the quanta: ids given, datasets from outside
`graph_writer`         making a columnar file quantum by quantum
`gathered_quanta`      quanta and datasets as numbers, linked at the end
`reference_columns`    dataset types and data IDs as numbers
`columnar_file`        opening a columnar file
`columnar_output`      writing a columnar file, whole or not at all
`columnar_graph`       a graph as columns: one quantum, a task label, all
`dataset_rows`         datasets of a columnar graph as inputs and outputs
`graph_tables`         the tables and their columns
`parquet_rows`         tables of Parquet, read by row groups
`column_codes`         rows as integers: what is equal has the same
`derived_columns`      ids and paths of many rows at once
`derived_graph_id`     the id of a graph from its columns
`columnar_check`       everything that a graph must hold to, asked of its columns
`dataset_check`        the same of its datasets
`levels`               which quanta depend on which
`selection`            which quanta are meant: by id, task label, data ID
`row_selection`        the rows of the quanta that are meant
`graph_statistics`     how many, how deep, how wide
`object_urls`          what each quantum needs from and puts into the datastore
`subset`               a part of a graph as a graph
`difference`           what two graphs differ in
`shown_graph`          a graph for people
`command`              ``quantum-exec graph``
=====================  ========================================================================

Nothing here runs on a worker: a worker is given a job, which is all that one quantum needs.
"""
