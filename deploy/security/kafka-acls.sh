#!/usr/bin/env bash
# Allows each role what it does on Kafka, nothing else. Written by: orchestrator topics acls --sh
# Needs Kafka's own kafka-acls.sh on the path, the brokers, and an administrator's client settings:
#   BOOTSTRAP=kafka:9093 COMMAND_CONFIG=admin.properties kafka-acls.sh
# Adding a rule twice changes nothing. Rules of an older version that are no longer here stay: list
# and remove them with kafka-acls.sh.
set -euo pipefail
allow() {
  kafka-acls.sh --bootstrap-server "${BOOTSTRAP:?}" --command-config "${COMMAND_CONFIG:?}" \
    --add --force "$@"
}
allow \
  --resource-pattern-type literal \
  --allow-principal User:orchestrator-init \
  --operation Describe \
  --operation DescribeConfigs \
  --operation Create \
  --topic kuro.events \
  --topic evm.events \
  --topic requests \
  --topic lanes \
  --topic controls \
  --topic dead-letters
allow \
  --resource-pattern-type literal \
  --allow-principal User:orchestrator-ingest \
  --operation Describe \
  --operation DescribeConfigs \
  --operation Read \
  --operation Write \
  --topic kuro.events \
  --topic evm.events
allow \
  --resource-pattern-type literal \
  --allow-principal User:orchestrator-ingest \
  --operation Describe \
  --operation DescribeConfigs \
  --topic requests \
  --topic lanes \
  --topic controls
allow \
  --resource-pattern-type literal \
  --allow-principal User:orchestrator-ingest \
  --allow-principal User:orchestrator-decide \
  --allow-principal User:orchestrator-relay \
  --operation Describe \
  --operation DescribeConfigs \
  --operation Write \
  --topic dead-letters
allow \
  --resource-pattern-type literal \
  --allow-principal User:orchestrator-ingest \
  --operation Read \
  --group orchestrator-ingest
allow \
  --resource-pattern-type prefixed \
  --allow-principal User:orchestrator-ingest \
  --operation Write \
  --transactional-id orchestrator.follower.
allow \
  --resource-pattern-type literal \
  --allow-principal User:orchestrator-decide \
  --operation Describe \
  --operation DescribeConfigs \
  --operation Read \
  --topic kuro.events \
  --topic evm.events \
  --topic controls
allow \
  --resource-pattern-type literal \
  --allow-principal User:orchestrator-decide \
  --operation Describe \
  --operation DescribeConfigs \
  --operation Read \
  --operation Write \
  --topic requests \
  --topic lanes
allow \
  --resource-pattern-type literal \
  --allow-principal User:orchestrator-decide \
  --operation Read \
  --group orchestrator-decide
allow \
  --resource-pattern-type literal \
  --allow-principal User:orchestrator-sign \
  --operation Describe \
  --operation DescribeConfigs \
  --operation Read \
  --topic kuro.events \
  --topic evm.events
allow \
  --resource-pattern-type literal \
  --allow-principal User:orchestrator-sign \
  --operation Describe \
  --operation DescribeConfigs \
  --operation Read \
  --operation Write \
  --topic requests \
  --topic controls
allow \
  --resource-pattern-type literal \
  --allow-principal User:orchestrator-sign \
  --operation Describe \
  --operation DescribeConfigs \
  --topic lanes \
  --topic dead-letters
allow \
  --resource-pattern-type literal \
  --allow-principal User:orchestrator-sign \
  --operation Read \
  --group orchestrator-sign
allow \
  --resource-pattern-type literal \
  --allow-principal User:orchestrator-relay \
  --operation Describe \
  --operation DescribeConfigs \
  --topic kuro.events \
  --topic evm.events \
  --topic requests
allow \
  --resource-pattern-type literal \
  --allow-principal User:orchestrator-relay \
  --operation Describe \
  --operation DescribeConfigs \
  --operation Read \
  --operation Write \
  --topic lanes
allow \
  --resource-pattern-type literal \
  --allow-principal User:orchestrator-relay \
  --operation Describe \
  --operation DescribeConfigs \
  --operation Read \
  --topic controls
allow \
  --resource-pattern-type literal \
  --allow-principal User:orchestrator-relay \
  --operation Read \
  --group orchestrator-relay
allow \
  --resource-pattern-type prefixed \
  --allow-principal User:orchestrator-relay \
  --operation Write \
  --transactional-id orchestrator.lane. \
  --transactional-id orchestrator.policies. \
  --transactional-id orchestrator.sequence.
allow \
  --resource-pattern-type literal \
  --allow-principal User:orchestrator-project \
  --allow-principal User:orchestrator-api \
  --allow-principal User:orchestrator-webhooks \
  --allow-principal User:orchestrator-auditor \
  --allow-principal User:orchestrator-seal \
  --operation Describe \
  --operation DescribeConfigs \
  --operation Read \
  --topic kuro.events \
  --topic evm.events \
  --topic requests \
  --topic lanes \
  --topic controls \
  --topic dead-letters
allow \
  --resource-pattern-type literal \
  --allow-principal User:orchestrator-api \
  --allow-principal User:orchestrator-operator \
  --allow-principal User:orchestrator-repair \
  --operation Describe \
  --group orchestrator-decide \
  --group orchestrator-sign \
  --group orchestrator-relay
allow \
  --resource-pattern-type literal \
  --allow-principal User:orchestrator-operator \
  --operation Describe \
  --operation DescribeConfigs \
  --operation Read \
  --topic kuro.events \
  --topic evm.events \
  --topic requests \
  --topic lanes \
  --topic dead-letters
allow \
  --resource-pattern-type literal \
  --allow-principal User:orchestrator-operator \
  --operation Describe \
  --operation DescribeConfigs \
  --operation Read \
  --operation Write \
  --topic controls
allow \
  --resource-pattern-type literal \
  --allow-principal User:orchestrator-repair \
  --operation Describe \
  --operation DescribeConfigs \
  --operation Read \
  --operation Write \
  --topic kuro.events \
  --topic evm.events \
  --topic requests \
  --topic lanes \
  --topic controls \
  --topic dead-letters
