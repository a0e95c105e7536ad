// Compiles one Solidity file with solc-js and writes solc's standard JSON output to stdout.
//
// Usage: node compile.cjs <contracts folder> <node_modules folder>, standard JSON input on stdin.
// It lives apart from its node_modules, since these are kept in a cache outside the repository.
// Run it by `python -m orchestrator.dev.compile_contract`.
"use strict";

const fs = require("node:fs");
const path = require("node:path");

const [contractsFolder, modulesFolder] = process.argv.slice(2);
const solc = require(path.join(modulesFolder, "solc"));

function readImport(name) {
  const folder = name.startsWith("@") ? modulesFolder : contractsFolder;
  try {
    return { contents: fs.readFileSync(path.join(folder, name), "utf8") };
  } catch (error) {
    return { error: String(error) };
  }
}

const input = fs.readFileSync(0, "utf8");
process.stdout.write(solc.compile(input, { import: readImport }));
