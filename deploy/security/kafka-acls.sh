#!/usr/bin/env bash
# Allows each role what it does on Kafka, nothing else. Written by: orchestrator topics acls --sh
# Needs Kafka's own kafka-acls.sh on the path, the brokers, and an administrator's client settings:
#   BOOTSTRAP=kafka:9093 COMMAND_CONFIG=admin.properties kafka-acls.sh
# Adding a rule twice changes nothing. Rules of an older version that are no longer here stay: list
# and remove them with kafka-acls.sh.
set -euo pipefail
allow() {
  kafka-acls.sh --bootstrap-server "${BOOTSTRAP:?}" --command-config "${COMMAND_CONFIG:?}" \
    --add --force --allow-principal "$@"
}
allow User:orchestrator-init --operation Describe --operation DescribeConfigs --operation Create --topic kuro.events --resource-pattern-type literal
allow User:orchestrator-init --operation Describe --operation DescribeConfigs --operation Create --topic evm.events --resource-pattern-type literal
allow User:orchestrator-init --operation Describe --operation DescribeConfigs --operation Create --topic requests --resource-pattern-type literal
allow User:orchestrator-init --operation Describe --operation DescribeConfigs --operation Create --topic lanes --resource-pattern-type literal
allow User:orchestrator-init --operation Describe --operation DescribeConfigs --operation Create --topic controls --resource-pattern-type literal
allow User:orchestrator-init --operation Describe --operation DescribeConfigs --operation Create --topic dead-letters --resource-pattern-type literal
allow User:orchestrator-ingest --operation Describe --operation DescribeConfigs --operation Read --operation Write --topic kuro.events --resource-pattern-type literal
allow User:orchestrator-ingest --operation Describe --operation DescribeConfigs --operation Read --operation Write --topic evm.events --resource-pattern-type literal
allow User:orchestrator-ingest --operation Describe --operation DescribeConfigs --topic requests --resource-pattern-type literal
allow User:orchestrator-ingest --operation Describe --operation DescribeConfigs --topic lanes --resource-pattern-type literal
allow User:orchestrator-ingest --operation Describe --operation DescribeConfigs --topic controls --resource-pattern-type literal
allow User:orchestrator-ingest --operation Describe --operation DescribeConfigs --operation Write --topic dead-letters --resource-pattern-type literal
allow User:orchestrator-ingest --operation Read --group orchestrator-ingest --resource-pattern-type literal
allow User:orchestrator-ingest --operation Write --transactional-id orchestrator.follower. --resource-pattern-type prefixed
allow User:orchestrator-decide --operation Describe --operation DescribeConfigs --operation Read --topic kuro.events --resource-pattern-type literal
allow User:orchestrator-decide --operation Describe --operation DescribeConfigs --operation Read --topic evm.events --resource-pattern-type literal
allow User:orchestrator-decide --operation Describe --operation DescribeConfigs --operation Read --operation Write --topic requests --resource-pattern-type literal
allow User:orchestrator-decide --operation Describe --operation DescribeConfigs --operation Read --operation Write --topic lanes --resource-pattern-type literal
allow User:orchestrator-decide --operation Describe --operation DescribeConfigs --operation Read --topic controls --resource-pattern-type literal
allow User:orchestrator-decide --operation Describe --operation DescribeConfigs --operation Write --topic dead-letters --resource-pattern-type literal
allow User:orchestrator-decide --operation Read --group orchestrator-decide --resource-pattern-type literal
allow User:orchestrator-sign --operation Describe --operation DescribeConfigs --operation Read --topic kuro.events --resource-pattern-type literal
allow User:orchestrator-sign --operation Describe --operation DescribeConfigs --operation Read --topic evm.events --resource-pattern-type literal
allow User:orchestrator-sign --operation Describe --operation DescribeConfigs --operation Read --operation Write --topic requests --resource-pattern-type literal
allow User:orchestrator-sign --operation Describe --operation DescribeConfigs --topic lanes --resource-pattern-type literal
allow User:orchestrator-sign --operation Describe --operation DescribeConfigs --operation Read --operation Write --topic controls --resource-pattern-type literal
allow User:orchestrator-sign --operation Describe --operation DescribeConfigs --topic dead-letters --resource-pattern-type literal
allow User:orchestrator-sign --operation Read --group orchestrator-sign --resource-pattern-type literal
allow User:orchestrator-relay --operation Describe --operation DescribeConfigs --topic kuro.events --resource-pattern-type literal
allow User:orchestrator-relay --operation Describe --operation DescribeConfigs --topic evm.events --resource-pattern-type literal
allow User:orchestrator-relay --operation Describe --operation DescribeConfigs --topic requests --resource-pattern-type literal
allow User:orchestrator-relay --operation Describe --operation DescribeConfigs --operation Read --operation Write --topic lanes --resource-pattern-type literal
allow User:orchestrator-relay --operation Describe --operation DescribeConfigs --operation Read --topic controls --resource-pattern-type literal
allow User:orchestrator-relay --operation Describe --operation DescribeConfigs --operation Write --topic dead-letters --resource-pattern-type literal
allow User:orchestrator-relay --operation Read --group orchestrator-relay --resource-pattern-type literal
allow User:orchestrator-relay --operation Write --transactional-id orchestrator.lane. --resource-pattern-type prefixed
allow User:orchestrator-relay --operation Write --transactional-id orchestrator.policies. --resource-pattern-type prefixed
allow User:orchestrator-relay --operation Write --transactional-id orchestrator.sequence. --resource-pattern-type prefixed
allow User:orchestrator-project --operation Describe --operation DescribeConfigs --operation Read --topic kuro.events --resource-pattern-type literal
allow User:orchestrator-project --operation Describe --operation DescribeConfigs --operation Read --topic evm.events --resource-pattern-type literal
allow User:orchestrator-project --operation Describe --operation DescribeConfigs --operation Read --topic requests --resource-pattern-type literal
allow User:orchestrator-project --operation Describe --operation DescribeConfigs --operation Read --topic lanes --resource-pattern-type literal
allow User:orchestrator-project --operation Describe --operation DescribeConfigs --operation Read --topic controls --resource-pattern-type literal
allow User:orchestrator-project --operation Describe --operation DescribeConfigs --operation Read --topic dead-letters --resource-pattern-type literal
allow User:orchestrator-api --operation Describe --operation DescribeConfigs --operation Read --topic kuro.events --resource-pattern-type literal
allow User:orchestrator-api --operation Describe --operation DescribeConfigs --operation Read --topic evm.events --resource-pattern-type literal
allow User:orchestrator-api --operation Describe --operation DescribeConfigs --operation Read --topic requests --resource-pattern-type literal
allow User:orchestrator-api --operation Describe --operation DescribeConfigs --operation Read --topic lanes --resource-pattern-type literal
allow User:orchestrator-api --operation Describe --operation DescribeConfigs --operation Read --topic controls --resource-pattern-type literal
allow User:orchestrator-api --operation Describe --operation DescribeConfigs --operation Read --topic dead-letters --resource-pattern-type literal
allow User:orchestrator-api --operation Describe --group orchestrator-decide --resource-pattern-type literal
allow User:orchestrator-api --operation Describe --group orchestrator-sign --resource-pattern-type literal
allow User:orchestrator-api --operation Describe --group orchestrator-relay --resource-pattern-type literal
allow User:orchestrator-webhooks --operation Describe --operation DescribeConfigs --operation Read --topic kuro.events --resource-pattern-type literal
allow User:orchestrator-webhooks --operation Describe --operation DescribeConfigs --operation Read --topic evm.events --resource-pattern-type literal
allow User:orchestrator-webhooks --operation Describe --operation DescribeConfigs --operation Read --topic requests --resource-pattern-type literal
allow User:orchestrator-webhooks --operation Describe --operation DescribeConfigs --operation Read --topic lanes --resource-pattern-type literal
allow User:orchestrator-webhooks --operation Describe --operation DescribeConfigs --operation Read --topic controls --resource-pattern-type literal
allow User:orchestrator-webhooks --operation Describe --operation DescribeConfigs --operation Read --topic dead-letters --resource-pattern-type literal
allow User:orchestrator-operator --operation Describe --operation DescribeConfigs --operation Read --topic kuro.events --resource-pattern-type literal
allow User:orchestrator-operator --operation Describe --operation DescribeConfigs --operation Read --topic evm.events --resource-pattern-type literal
allow User:orchestrator-operator --operation Describe --operation DescribeConfigs --operation Read --topic requests --resource-pattern-type literal
allow User:orchestrator-operator --operation Describe --operation DescribeConfigs --operation Read --topic lanes --resource-pattern-type literal
allow User:orchestrator-operator --operation Describe --operation DescribeConfigs --operation Read --operation Write --topic controls --resource-pattern-type literal
allow User:orchestrator-operator --operation Describe --operation DescribeConfigs --operation Read --topic dead-letters --resource-pattern-type literal
allow User:orchestrator-operator --operation Describe --group orchestrator-decide --resource-pattern-type literal
allow User:orchestrator-operator --operation Describe --group orchestrator-sign --resource-pattern-type literal
allow User:orchestrator-operator --operation Describe --group orchestrator-relay --resource-pattern-type literal
allow User:orchestrator-repair --operation Describe --operation DescribeConfigs --operation Read --operation Write --topic kuro.events --resource-pattern-type literal
allow User:orchestrator-repair --operation Describe --operation DescribeConfigs --operation Read --operation Write --topic evm.events --resource-pattern-type literal
allow User:orchestrator-repair --operation Describe --operation DescribeConfigs --operation Read --operation Write --topic requests --resource-pattern-type literal
allow User:orchestrator-repair --operation Describe --operation DescribeConfigs --operation Read --operation Write --topic lanes --resource-pattern-type literal
allow User:orchestrator-repair --operation Describe --operation DescribeConfigs --operation Read --operation Write --topic controls --resource-pattern-type literal
allow User:orchestrator-repair --operation Describe --operation DescribeConfigs --operation Read --operation Write --topic dead-letters --resource-pattern-type literal
allow User:orchestrator-repair --operation Describe --group orchestrator-decide --resource-pattern-type literal
allow User:orchestrator-repair --operation Describe --group orchestrator-sign --resource-pattern-type literal
allow User:orchestrator-repair --operation Describe --group orchestrator-relay --resource-pattern-type literal
allow User:orchestrator-auditor --operation Describe --operation DescribeConfigs --operation Read --topic kuro.events --resource-pattern-type literal
allow User:orchestrator-auditor --operation Describe --operation DescribeConfigs --operation Read --topic evm.events --resource-pattern-type literal
allow User:orchestrator-auditor --operation Describe --operation DescribeConfigs --operation Read --topic requests --resource-pattern-type literal
allow User:orchestrator-auditor --operation Describe --operation DescribeConfigs --operation Read --topic lanes --resource-pattern-type literal
allow User:orchestrator-auditor --operation Describe --operation DescribeConfigs --operation Read --topic controls --resource-pattern-type literal
allow User:orchestrator-auditor --operation Describe --operation DescribeConfigs --operation Read --topic dead-letters --resource-pattern-type literal
