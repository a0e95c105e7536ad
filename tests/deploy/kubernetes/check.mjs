// Reads a JSON list of custom resources from standard input and writes a JSON list of what is
// wrong with them. Usage: node check.mjs <node_modules>
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [modules] = process.argv.slice(2);

const PACKAGES = { "keda.sh": "keda", "monitoring.coreos.com": "prometheus-operator" };

async function model(object) {
  const [group] = object.apiVersion.split("/");
  const name = PACKAGES[group];
  if (name === undefined) return undefined;
  const file = `${modules}/@kubernetes-models/${name}/${object.apiVersion}/${object.kind}.js`;
  return (await import(pathToFileURL(file)))[object.kind];
}

const problems = [];
for (const object of JSON.parse(readFileSync(0, "utf8"))) {
  const name = `${object.kind} ${object.metadata?.name}`;
  const Model = await model(object);
  if (Model === undefined) {
    problems.push(`${name}: no schema for ${object.apiVersion}`);
    continue;
  }
  try {
    new Model(object).validate();
  } catch (error) {
    problems.push(`${name}: ${error.message}`);
  }
}
process.stdout.write(JSON.stringify(problems));
