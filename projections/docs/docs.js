// Shows /openapi.json as a page. Text is only ever set as text.

const main = document.getElementById("main");

function h(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children.filter((child) => child !== null));
  return node;
}

function shape(schema) {
  if (!schema) return "";
  if (schema.$ref) {
    const name = schema.$ref.split("/").pop();
    return h("a", { href: `#schema-${name}` }, name);
  }
  const several = schema.anyOf || schema.oneOf;
  if (several) {
    const parts = several.flatMap((one, index) => (index ? [" or ", shape(one)] : [shape(one)]));
    return h("span", {}, ...parts);
  }
  if (schema.enum) return schema.enum.join(" | ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.type === "array") return h("span", {}, "list of ", shape(schema.items));
  if (schema.additionalProperties && schema.additionalProperties !== true) {
    return h("span", {}, "map of ", shape(schema.additionalProperties));
  }
  return [schema.type || "any", schema.format].filter(Boolean).join(", ");
}

function table(heads, rows) {
  return h("table", {},
    h("thead", {}, h("tr", {}, ...heads.map((head) => h("th", { scope: "col" }, head)))),
    h("tbody", {}, ...rows.map((cells) => h("tr", {}, ...cells.map((cell) => h("td", {}, cell))))));
}

function operation(path, one) {
  const parameters = one.parameters.map((given) => [
    h("code", {}, given.name), given.in, shape(given.schema), given.description || ""]);
  const answers = Object.entries(one.responses).map(([status, answer]) => [
    h("code", {}, status),
    h("span", {}, ...Object.entries(answer.content || {}).map(([type, content]) =>
      h("div", {}, `${type} `, shape(content.schema)))),
    answer.description]);
  return h("details", { id: one.operationId },
    h("summary", {}, h("code", {}, `GET ${path}`), ` ${one.summary}`),
    h("p", {}, one.description),
    parameters.length ? table(["parameter", "in", "value", ""], parameters) : null,
    table(["status", "answer", ""], answers));
}

function schema(name, body) {
  const required = new Set(body.required || []);
  const fields = Object.entries(body.properties || {}).map(([field, value]) => [
    h("code", {}, field), shape(value), required.has(field) ? "always" : "", value.description || ""]);
  return h("details", { id: `schema-${name}` }, h("summary", {}, h("code", {}, name)),
    body.description ? h("p", {}, body.description) : null,
    table(["field", "value", "", ""], fields));
}

function reveal() {
  const node = location.hash ? document.getElementById(decodeURIComponent(location.hash.slice(1))) : null;
  if (!node) return;
  if (node.tagName === "DETAILS") node.open = true;
  node.scrollIntoView();
}

async function show() {
  const response = await fetch("/openapi.json", { credentials: "omit" });
  if (!response.ok) throw new Error(`HTTP ${response.status}`);
  const found = await response.json();
  main.replaceChildren(
    h("h1", {}, `${found.info.title}: API`),
    h("p", {}, found.info.description),
    h("p", {}, h("a", { href: "/openapi.json" }, "openapi.json"), ` (OpenAPI ${found.openapi})`),
    h("h2", {}, "Questions"),
    ...Object.entries(found.paths).map(([path, item]) => operation(path, item.get)),
    h("h2", {}, "Errors"),
    table(["type", "status", "title"], found["x-problems"].map((problem) => [
      h("code", { id: `problem-${problem.name}` }, problem.name), String(problem.status), problem.title])),
    h("h2", {}, "Shapes"),
    ...Object.entries(found.components.schemas).map(([name, body]) => schema(name, body)));
  reveal();
}

addEventListener("hashchange", reveal);
show().catch((error) => {
  main.replaceChildren(h("h1", {}, "API"), h("p", { role: "alert" }, `openapi.json cannot be read: ${error.message}`));
});
