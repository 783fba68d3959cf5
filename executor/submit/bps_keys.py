# SPDX-License-Identifier: BSD-3-Clause
"""Keys of BPS that have no effect here, so that a BPS user's file is not refused as a whole."""

UNUSED_EVERYWHERE = frozenset(
    {
        *("releaseExpr", "overwriteJobFiles", "abortOnValue", "abortReturnValue", "mailTo"),
        *("whenToMail", "queue", "category", "preCmdOpts", "preCmdline", "postCmdline"),
        *("runQuantumCommand", "computeCloud", "subDirTemplate", "templateDataId"),
        *("executeMachinesPattern", "bpsUseShared", "bpsUseHTCEnvironment", "bpsMakeCommand"),
        *("payloadCommand", "provisionResources", "provisioning", "provisioningMaxWallTime"),
        *("fileDistributionEndPoint", "useLazyCommands", "saveJobReport", "concurrencyLimits"),
    }
)
"""At the top, in ``site.<name>``, ``cluster.<label>`` and ``pipetask.<label>``."""

UNUSED_AT_TOP = UNUSED_EVERYWHERE | {
    *("pipelineYaml", "qgraphFile", "qgraphFileTemplate", "inputQgraphFile", "qgraphId"),
    *("butlerConfig", "inCollection", "outCollection", "outputRun", "dataQuery", "runInit"),
    *("createQuantumGraph", "updateQuantumGraph", "pipetaskInput", "pipetaskOutput"),
    *("pipetaskDataQuery", "whenSaveJobQgraph", "defaultPreCmdOpts", "qgraphPreCmdOpts"),
    *("initPreCmdOpts", "runPreCmdOpts", "updateQgraphPreCmdOpts", "finalPreCmdOpts"),
    *("extraQgraphOptions", "extraInitOptions", "extraRunQuantumOptions"),
    *("extraUpdateQgraphOptions", "extraAggregateOptions", "updateOutputChain"),
    *("wmsServiceClass", "wmsConfig", "uniqProcName", "timestamp", "submitRoot"),
    *("saveDot", "saveGenericWorkflow", "saveClusteredQgraph", "validateClusteredQgraph"),
    *("executionButler", "executionButlerTemplate", "finalJob", "cloud", "customJob", "ordering"),
    *("makeIdLink", "idLinkPath", "bps_defined", "reportFile", "gracePeriod"),
}

UNUSED_IN_SITE = UNUSED_EVERYWHERE | {
    *("arch", "os", "directory", "wmsServiceClass", "wmsConfig", "nodeCount", "exclusive"),
}

UNUSED_IN_PAYLOAD = UNUSED_AT_TOP | {"butlerRepo", "skipExistingIn"}
