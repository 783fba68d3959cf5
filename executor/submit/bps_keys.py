# SPDX-License-Identifier: BSD-3-Clause
"""Keys of BPS that have no effect here, and why: a BPS user's file is not refused as a whole."""

from collections.abc import Iterable, Mapping

_GRAPH = "the graph is made before"
_QUANTA = "jobs run `quantum-exec run`"
_MERGE = "`registry-merge` ends every DAG"
_SLOTS = "the pool has its slots from elsewhere"
_POLICY = "holdRetries, holdTimeout and requestMemoryMax say what becomes of a job that goes wrong"
_FILES = "directories and logs have names of our own"
_ORDER = "the order is that of the graph, of initTasks and of priority"
_SERVICE = "jobs go to HTCondor"
_COMMANDS = "HTCondor would run these around a job; put them into the task's command"
_MAIL = "notification and notify_user in profile.condor are for that"

_LEVEL_KEYS = {
    _QUANTA: ("runQuantumCommand", "preCmdOpts", "payloadCommand", "bpsMakeCommand"),
    _COMMANDS: ("preCmdline", "postCmdline"),
    _MAIL: ("mailTo", "whenToMail"),
    _POLICY: ("releaseExpr", "abortOnValue", "abortReturnValue"),
    _SLOTS: ("provisionResources", "provisioning", "provisioningMaxWallTime", "computeCloud"),
    _SERVICE: ("queue", "category", "bpsUseHTCEnvironment", "executeMachinesPattern"),
    _FILES: (
        *("overwriteJobFiles", "subDirTemplate", "templateDataId", "bpsUseShared"),
        *("fileDistributionEndPoint", "useLazyCommands", "saveJobReport"),
    ),
}
_CLUSTER_KEYS = {_FILES: ("clusterTemplate",)}
_TOP_KEYS = {
    _GRAPH: (
        *("pipelineYaml", "qgraphFile", "qgraphFileTemplate", "inputQgraphFile", "qgraphId"),
        *("butlerConfig", "inCollection", "outCollection", "outputRun", "dataQuery", "runInit"),
        *("createQuantumGraph", "updateQuantumGraph", "pipetaskInput", "pipetaskOutput"),
        *("pipetaskDataQuery", "whenSaveJobQgraph", "qgraphPreCmdOpts", "extraQgraphOptions"),
        *("updateQgraphPreCmdOpts", "extraUpdateQgraphOptions", "remoteBuild"),
        *("saveClusteredQgraph", "validateClusteredQgraph"),
    ),
    _QUANTA: (
        *("defaultPreCmdOpts", "initPreCmdOpts", "runPreCmdOpts", "extraInitOptions"),
        *("extraRunQuantumOptions", "customJob"),
    ),
    _MERGE: (
        *("finalJob", "finalPreCmdOpts", "extraAggregateOptions", "updateOutputChain"),
        *("executionButler", "executionButlerTemplate", "mergePreCmdOpts"),
    ),
    _SERVICE: ("wmsServiceClass", "wmsConfig", "cloud", "gracePeriod"),
    _ORDER: ("ordering",),
    _FILES: (
        *("uniqProcName", "timestamp", "submitRoot", "saveDot", "saveGenericWorkflow"),
        *("makeIdLink", "idLinkPath", "bps_defined", "reportFile"),
    ),
}
_SITE_KEYS = {
    _SERVICE: ("wmsServiceClass", "wmsConfig", "arch", "os", "directory", "class"),
    _SLOTS: ("nodeCount", "exclusive"),
}
_LABELS = {_QUANTA: ("pipetaskInit",)}
_PROFILES = {
    _SERVICE: ("dagman", "env", "globus", "hints", "panda", "parsl", "pegasus", "selector")
}
_PAYLOAD_KEYS = {_GRAPH: ("butlerRepo", "skipExistingIn")}

_REASONS = {
    key: reason
    for level in (
        _LEVEL_KEYS,
        _CLUSTER_KEYS,
        _TOP_KEYS,
        _SITE_KEYS,
        _PAYLOAD_KEYS,
        _LABELS,
        _PROFILES,
    )
    for reason, keys in level.items()
    for key in keys
}


def _keys(*levels: Mapping[str, tuple[str, ...]]) -> frozenset[str]:
    return frozenset(key for level in levels for keys in level.values() for key in keys)


UNUSED_EVERYWHERE = _keys(_LEVEL_KEYS)
"""At the top, in ``site.<name>``, ``cluster.<label>`` and ``pipetask.<label>``."""
UNUSED_IN_CLUSTER = _keys(_LEVEL_KEYS, _CLUSTER_KEYS)
UNUSED_AT_TOP = _keys(_LEVEL_KEYS, _TOP_KEYS)
UNUSED_IN_SITE = _keys(_LEVEL_KEYS, _SITE_KEYS)
UNUSED_PROFILES = _keys(_PROFILES)
UNUSED_IN_PAYLOAD = _keys(_LEVEL_KEYS, _TOP_KEYS, _PAYLOAD_KEYS)

MADE_BY_BPS = frozenset({"outputRun", "timestamp", "uniqProcName"})
"""What ``{key}`` stands for in BPS without being in a file; most of it is new at every call."""


def told(places: Iterable[tuple[str, ...]]) -> str:
    """Say why keys have no effect: ``finalJob (…); wmsConfig, queue (…)``."""
    found: dict[str, list[str]] = {}
    for place in sorted(places):
        reason = _REASONS.get(place[-1], _QUANTA if place[-1].startswith("command") else "")
        found.setdefault(reason, []).append(".".join(place))
    return "; ".join(
        f"{', '.join(keys)} ({reason})" if reason else ", ".join(keys)
        for reason, keys in found.items()
    )
