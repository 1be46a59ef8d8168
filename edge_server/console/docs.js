// The API page: reads /openapi.json, shows every operation and tries it.

import {
  authorization, badge, copyText, curl, fold, h, lacksPicture, messageOf, notice, parsed, prose,
  safely, send, standIn, statusTone,
} from "/static/page.js";

const TAGS_FIRST = ["inference", "models in memory", "models on disk"];
// For what the document gives no example of.
const EXAMPLES = {
  model_id: "demo-parts/1", project: "demo-parts", version: "1", name: "page.css",
};
const DESTRUCTIVE = {
  "post /models/delete": "deletes the model from disk",
  "post /model/clear": "unloads every model",
  "get /clear_cache": "unloads every model",
};
const METHODS = ["get", "head", "post", "put", "patch", "delete", "options"];
const HEADERS_SHOWN = /^(content-(type|length)|retry-after|allow|x-(?!content-type-options).+)$/;
const LONGEST_STRING = 160;
const LONGEST_TEXT = 200_000;

const main = document.getElementById("main");
let api = {};

// ---- schemas

function resolve(node) {
  if (!node?.$ref) return node ?? {};
  const found = node.$ref.slice(2).split("/").reduce((at, name) => at?.[name], api);
  return found?.$ref ? {} : (found ?? {});
}

const nameOf = (schema) => schema.$ref.split("/").pop();

/** A schema's type in a few words. */
function typeText(schema) {
  if (schema?.$ref) return nameOf(schema);
  const { anyOf, oneOf, allOf, items, prefixItems, additionalProperties } = schema ?? {};
  const choices = anyOf ?? oneOf;
  if (choices) return choices.map(typeText).join(" or ");
  if (allOf) return allOf.map(typeText).join(" and ");
  if (schema?.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema?.const !== undefined) return JSON.stringify(schema.const);
  if (schema?.contentEncoding) return `${schema.contentEncoding} text`;
  if (schema?.format === "binary") return "file";
  const grouped = (part) => typeText(part).replace(/^.* or .*$/, "($&)");
  const one = (type) => {
    if (type === "array" && prefixItems) return `[${prefixItems.map(typeText).join(", ")}]`;
    if (type === "array" && items) return `list of ${grouped(items)}`;
    if (type === "object" && additionalProperties) return `map of ${grouped(additionalProperties)}`;
    return String(type);
  };
  return [schema?.type ?? "anything"].flat().map(one).join(" or ");
}

/** The named and the inline objects that a schema is made of, one level deep: name → schema. */
function structs(schema, found = new Map()) {
  if (schema?.$ref) {
    const name = nameOf(schema);
    if (found.has(name)) return found;
    const target = resolve(schema);
    found.set(name, target);
    if (!target.properties) structs(target, found);
  } else if (schema?.properties) {
    found.set(schema.title ?? "object", schema);
  } else {
    const { anyOf, oneOf, allOf, items, prefixItems, additionalProperties } = schema ?? {};
    for (const part of [anyOf, oneOf, allOf, items, prefixItems, additionalProperties].flat())
      if (part) structs(part, found);
  }
  return found;
}

/** Schema keywords that bound a value, as words. */
function bounds(schema) {
  const words = {
    minimum: "from", exclusiveMinimum: "above", maximum: "to", exclusiveMaximum: "below",
    minLength: "min. length", maxLength: "max. length", minItems: "min. items",
    maxItems: "max. items", multipleOf: "multiple of", pattern: "pattern",
  };
  return [schema, ...(schema.anyOf ?? [])].flatMap((part) => Object.keys(words)
    .filter((word) => part?.[word] !== undefined)
    .map((word) => h("span", { class: "bound" }, `${words[word]} `, h("code", {}, part[word]))));
}

/** A value that fits the schema: its required fields, or all of them. */
function example(schema, all, name = "", depth = 0) {
  schema = resolve(schema);
  if (schema.examples?.length) return schema.examples[0];
  if (schema.default !== undefined) return schema.default;
  if (name in EXAMPLES) return EXAMPLES[name];
  if (schema.const !== undefined || schema.enum) return schema.const ?? schema.enum[0];
  const choices = (schema.anyOf ?? schema.oneOf ?? []).map(resolve);
  if (choices.length && depth < 9) {
    const single = choices.find(({ type }) => type !== "array" && type !== "null");
    return example(single ?? choices[0], all, name, depth + 1);
  }
  const type = [schema.type].flat()[0];
  if (type === "object" || schema.properties) {
    const wanted = ([field]) => depth < 9 && (all || schema.required?.includes(field));
    const fields = Object.entries(schema.properties ?? {}).filter(wanted);
    const filled = ([field, part]) => [field, example(part, all, field, depth + 1)];
    return Object.fromEntries(fields.map(filled));
  }
  return { string: "", integer: 0, number: 0, boolean: false, array: [] }[type] ?? null;
}

/** Whether the body's field `image` is an object that carries the picture in `value`. */
const takesPicture = (schema) =>
  [...structs(resolve(schema).properties?.image).values()].some((part) => part.properties?.value);

// ---- reading

/** A table of fields or parameters: {name, in, required, schema, description}. */
function fieldTable(fields) {
  const row = (field) => {
    const schema = field.schema ?? {};
    const inner = schema.anyOf?.find((part) => part.description);
    const text = field.description ?? schema.description ?? inner?.description;
    const standard = schema.default ?? undefined;
    return h("tr", {},
      h("th", { scope: "row" }, h("code", {}, field.name)),
      h("td", { class: "where" }, field.required && required(), field.in),
      h("td", { class: "type" }, typeText(schema)),
      h("td", { class: "default" },
        standard !== undefined && ["default ", h("code", {}, JSON.stringify(standard))]),
      h("td", { class: "about" }, prose(text), " ", bounds(schema), structViews(schema)));
  };
  const heads = ["Name", "Where", "Type", "Default", "Description"];
  return h("table", { class: "fields" },
    h("thead", { class: "hidden" },
      h("tr", {}, heads.map((head) => h("th", { scope: "col" }, head)))),
    h("tbody", {}, fields.map(row)));
}

const required = () => h("span", { class: "required" }, "required");

/** What a struct holds, required fields first; a named schema without fields by its type. */
function structView(struct) {
  const fields = Object.entries(struct.properties ?? {}).map(([name, schema]) =>
    ({ name, schema, required: Boolean(struct.required?.includes(name)) }));
  fields.sort((a, b) => b.required - a.required);
  return fields.length ? fieldTable(fields) : h("p", { class: "type" }, typeText(struct));
}

/** One disclosure for each struct in a schema. */
const structViews = (schema) => [...structs(schema)].map(([name, struct]) => {
  const about = h("span", { class: "muted" }, prose(struct.description));
  return fold({ class: "struct" }, [h("code", {}, name), about], () => structView(struct));
});

/** Each media type with what it holds; its only struct is shown at once. */
const contentView = (content) => Object.entries(content ?? {}).map(([type, { schema }]) => {
  const [struct, ...others] = structs(schema).values();
  const what = typeText(schema);
  return h("div", { class: "media" },
    h("code", {}, type),
    h("span", { class: "type" }, what === "anything" ? "the bytes of the file" : what),
    struct && !others.length
      ? [h("p", { class: "muted" }, prose(struct.description)), structView(struct)]
      : structViews(schema));
});

function answerView([status, answer]) {
  const { description, content } = resolve(answer);
  const media = Object.entries(content ?? {});
  const types = media.map(([type, { schema }]) => type.endsWith("json") ? typeText(schema) : type);
  const summary = [badge(status, statusTone(status)), h("span", {}, description),
    h("span", { class: "muted clip" }, types.join(", "))];
  return media.length
    ? fold({ class: "answer" }, summary, () => contentView(content))
    : h("div", { class: "answer" }, summary);
}

function readView({ id, description, parameters, body, responses }) {
  return h("div", { class: "read" },
    h("a", { class: "jump", href: `#try-${id}` }, "Try it"),
    description && h("p", {}, prose(description)),
    parameters.length > 0
      && h("section", {}, h("h4", {}, "Parameters"), fieldTable(parameters)),
    body && h("section", {}, h("h4", {}, "Body", body.required && required()),
      prose(body.description), contentView(body.content)),
    h("section", {}, h("h4", {}, "Answers"), Object.entries(responses ?? {}).map(answerView)));
}

// ---- trying

/** The values that a parameter is limited to, if it is. */
function choicesOf(schema) {
  if (schema.type === "boolean") return [true, false];
  const parts = (schema.anyOf ?? [schema]).filter(({ type }) => type !== "null");
  return parts.length === 1 ? parts[0].enum : undefined;
}

/** A labelled input for a parameter, prefilled with its default or an example. */
function parameterInput(parameter) {
  const { name, schema = {} } = parameter;
  const choices = choicesOf(schema);
  const attributes = { "data-name": name, autocomplete: "off", required: parameter.required };
  const options = ["", ...(choices ?? [])].map((value) => h("option", {}, String(value)));
  const input = choices ? h("select", attributes, options) : h("input", attributes);
  const start = parameter.required ? example(schema, false, name) : schema.default;
  input.value = String(start ?? "");
  const title = h("span", {}, h("code", {}, name), " ", h("small", {}, parameter.in));
  return { parameter, input, label: h("label", { class: "field" }, title, input) };
}

/** A field to choose a picture or drop one on; `chosen` is called with the file. */
function pictureInput(chosen) {
  const text = h("span", {}, "Choose a picture, or drop one here");
  const preview = h("img", { alt: "", hidden: true, width: 56, height: 56 });
  const choose = (file) => {
    if (!file) return;
    text.textContent = standIn(file).slice(1, -1);
    URL.revokeObjectURL(preview.src);
    preview.hidden = !file.type.startsWith("image/");
    preview.src = URL.createObjectURL(file);
    chosen(file);
  };
  const input = h("input", {
    type: "file", accept: "image/*", class: "hidden", onchange: () => choose(input.files[0]),
  });
  const mark = (on) => () => zone.classList.toggle("over", on);
  const zone = h("label", {
    class: "drop", ondragover: mark(true), ondragleave: mark(false),
    ondrop: (event) => { mark(false)(); choose(event.dataTransfer.files[0]); },
  }, preview, text, input);
  return zone;
}

/** What a body of this media type is made from: see `page.js`. */
function carrierOf(type, schema) {
  if (type === "multipart/form-data") return "form";
  if (resolve(schema).contentEncoding === "base64") return "base64";
  return /^text|json|xml|urlencoded/.test(type) ? "text" : "file";
}

/** The inputs for the body: media type, picture and text, as far as the operation has them. */
function bodyInputs({ body }, form) {
  const content = body?.content ?? {};
  const types = Object.keys(content);
  if (!types.length) return [];
  form.type = h("select", {}, types.map((type) => h("option", {}, type)));
  form.text = h("textarea", { "aria-label": "Body", spellcheck: "false" });
  const schema = () => content[form.type.value].schema;
  const isText = () => carrierOf(form.type.value, schema()) === "text";
  const fill = (all) => {
    const value = example(schema(), all);
    if (takesPicture(schema())) value.image = { type: "base64", value: standIn(form.file) };
    form.text.value = JSON.stringify(value, null, 2);
    form.text.rows = Math.min(form.text.value.split("\n").length + 1, 20);
    form.changed();
  };
  const picture = pictureInput((file) => {
    const [before, after] = [form.file, file].map((one) => JSON.stringify(standIn(one)));
    form.file = file;
    if (types.includes(file.type)) form.type.value = file.type;
    const { text } = form;
    if (text.value.includes(before)) text.value = text.value.replaceAll(before, () => after);
    else if (isText()) fill(false);
    form.changed();
  });
  const everything = h("button", { type: "button", class: "plain", onclick: () => fill(true) },
    "Put every field in");
  const text = h("div", {},
    h("div", { class: "row spread" }, h("h5", {}, "Body"), everything), form.text);
  const arrange = () => {
    text.hidden = !isText();
    picture.hidden = isText() && !takesPicture(schema());
    if (isText() && !form.text.value) fill(false);
  };
  form.type.addEventListener("change", arrange);
  arrange();
  const choice = h("label", { class: "field" }, h("span", {}, "Body as"), form.type);
  return [types.length > 1 && choice, picture, text];
}

/** What the form says. A parameter that is empty or as by default is left out. */
function requestOf({ method, path, body }, form) {
  const headers = {};
  const query = new URLSearchParams();
  for (const { parameter, input: { value } } of form.inputs) {
    const { name } = parameter;
    if (parameter.in === "path") path = path.replace(`{${name}}`, encodeURIComponent(value));
    else if (value === "" || value === String(parameter.schema?.default ?? "")) continue;
    else if (parameter.in === "header") headers[name] = value;
    else if (parameter.in === "query") query.append(name, value);
  }
  const request = { method, url: `${location.origin}${path}?${query}`.replace(/\?$/, ""), headers };
  const { file, type } = form;
  const carrier = type && carrierOf(type.value, body.content[type.value].schema);
  if (!carrier || (carrier !== "text" && !file)) return request;
  const own = type.value.startsWith("image/") && file.type;
  if (carrier !== "form") headers["Content-Type"] = own || type.value;
  return { ...request, carrier, file, text: form.text.value };
}

function tryView(operation) {
  const form = { inputs: operation.parameters.map(parameterInput), changed: () => {} };
  const body = bodyInputs(operation, form);
  const danger = DESTRUCTIVE[operation.name];
  const line = h("pre", { class: "code", tabindex: "0", "aria-label": "The same call with curl" });
  const answer = h("div", { class: "result" });
  const copy = h("button", { type: "button", class: "plain", onclick: () => copyText(line, copy) },
    "Copy");
  const button = h("button", { class: danger ? "danger" : "primary" }, "Send");
  form.changed = () => { line.textContent = curl(requestOf(operation, form)); };
  form.changed();
  const submit = async (event) => {
    event.preventDefault();
    if (button.ariaBusy === "true") return;
    if (danger && !confirm(`${operation.name.toUpperCase()} ${danger}. Send it?`)) return;
    button.ariaBusy = "true";
    answer.replaceChildren(...(await call(requestOf(operation, form))));
    button.ariaBusy = "false";
  };
  const labels = (wanted) => form.inputs
    .filter(({ parameter }) => Boolean(parameter.required) === wanted).map(({ label }) => label);
  const optional = labels(false);
  return h("form", {
    class: "try", id: `try-${operation.id}`, "aria-label": `Try ${operation.name}`,
    oninput: () => form.changed(), onchange: () => form.changed(), onsubmit: submit,
  },
    h("h4", {}, "Try it"),
    labels(true),
    optional.length > 0 && h("details", {},
      h("summary", {}, `Optional parameters (${optional.length})`),
      h("p", { class: "muted" }, "What is empty or left as it is by default is not sent."),
      optional),
    body,
    h("div", { class: "row" }, button, danger && h("span", { class: "muted" }, `This ${danger}.`)),
    h("div", { class: "row spread" }, h("h5", {}, "curl"), copy), line, answer);
}

/** Sends a request; what came back, as elements. */
async function call(request) {
  if (lacksPicture(request))
    return [notice("warn", "Choose a picture first, or name one by its URL in the body.")];
  const started = performance.now();
  try {
    const response = await send(request);
    const blob = await response.blob();
    return await resultView(response, blob, performance.now() - started);
  } catch (error) {
    const advice = "Is the server running, and are the headers plain ASCII?";
    return [notice("bad", `The request got no answer: ${error.message}. ${advice}`)];
  }
}

async function resultView({ ok, status, statusText, headers }, blob, milliseconds) {
  const type = headers.get("Content-Type") ?? "";
  const isPicture = type.startsWith("image/");
  const text = isPicture ? "" : await blob.text();
  const value = type.includes("json") ? parsed(text) : undefined;
  const count = Array.isArray(value?.predictions) && value.predictions.length;
  const shown = value === undefined ? text : JSON.stringify(value, shorten, 2);
  const more = shown.length - LONGEST_TEXT;
  const drawn = isPicture ? URL.createObjectURL(blob)
    : value?.visualization && `data:image/jpeg;base64,${value.visualization}`;
  const told = [...headers].filter(([name]) => HEADERS_SHOWN.test(name));
  return [
    h("p", { class: "row", role: "status" },
      badge(`${status} ${statusText}`, statusTone(status)),
      h("span", {}, `${milliseconds.toFixed(0)} ms`),
      h("span", { class: "muted" }, `${blob.size.toLocaleString("en")} bytes`),
      count !== false && h("b", {}, `${count} prediction${count === 1 ? "" : "s"}`)),
    !ok && notice(statusTone(status), messageOf(value) || text || "The server gave no reason."),
    drawn && h("img", {
      class: "shown", src: drawn, alt: "The annotated picture",
      onload: () => URL.revokeObjectURL(drawn),
    }),
    shown && h("pre", { class: "code tall", tabindex: "0", "aria-label": "Answer" },
      shown.slice(0, LONGEST_TEXT),
      more > 0 && `\n… ${more.toLocaleString("en")} more characters`),
    h("details", {}, h("summary", {}, `Headers (${told.length})`), h("dl", { class: "headers" },
      told.map(([name, header]) => [h("dt", {}, name), h("dd", {}, header)]))),
  ].filter(Boolean);
}

const shorten = (_, value) => typeof value === "string" && value.length > LONGEST_STRING
  ? `${value.slice(0, 48)}… (${value.length.toLocaleString("en")} characters)` : value;

// ---- the page

/** Every operation of the document, with references followed and parameters gathered. */
function operationsOf(document) {
  return Object.entries(document.paths ?? {}).flatMap(([path, item]) =>
    METHODS.filter((method) => item?.[method]).map((method) => {
      const operation = item[method];
      const given = [...(item.parameters ?? []), ...(operation.parameters ?? [])].map(resolve);
      return {
        ...operation, method, path, name: `${method} ${path}`,
        tag: operation.tags?.[0] ?? "other",
        id: operation.operationId ?? `${method}${path}`,
        parameters: [...new Map(given.map((one) => [`${one.in} ${one.name}`, one])).values()],
        body: operation.requestBody && resolve(operation.requestBody),
      };
    }));
}

function operationView(operation) {
  const { id, method, path } = operation;
  const summary = [
    h("span", { class: `method ${method}` }, method.toUpperCase()),
    h("h3", {}, h("code", {}, path)),
    h("span", { class: "about" }, prose(operation.summary)),
    DESTRUCTIVE[operation.name] && badge("destructive", "bad"),
    operation.deprecated && badge("deprecated", "warn"),
  ];
  const element = fold({ class: "operation", id }, summary, () => h("div", { class: "columns" },
    safely(() => readView(operation)), safely(() => tryView(operation))));
  const link = () => element.open && history.replaceState(null, "", `#${id}`);
  element.addEventListener("toggle", link);
  return element;
}

function show() {
  const operations = operationsOf(api);
  const order = [...new Set([...TAGS_FIRST, ...operations.map(({ tag }) => tag)])];
  const tags = order.filter((tag) => operations.some((one) => one.tag === tag));
  const group = (tag) => h("section", { class: "group" }, h("h2", {}, tag),
    operations.filter((one) => one.tag === tag).map((one) => safely(() => operationView(one))));
  const { title = "API", version = "", description } = api.info ?? {};
  main.replaceChildren(
    h("div", { class: "intro" },
      h("h1", {}, title, " ", badge(version)), h("p", { class: "lead" }, prose(description))),
    ...tags.map(group));
  openLinked();
}

function openLinked() {
  const linked = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!linked?.matches("details")) return;
  if (!linked.open) linked.firstChild.click();
  linked.scrollIntoView();
}

async function load() {
  main.ariaBusy = "true";
  try {
    const response = await fetch("/openapi.json", { headers: authorization() });
    const value = parsed(await response.text());
    if (!response.ok || !value)
      throw new Error(messageOf(value) ?? `it answered ${response.status}`);
    api = value;
    show();
  } catch (error) {
    main.replaceChildren(
      notice("bad", `The server did not give its description: ${error.message}`),
      h("button", { class: "primary", onclick: load }, "Try again"));
  }
  main.ariaBusy = "false";
}

const key = document.getElementById("key");
key.addEventListener("input", () => {
  for (const form of document.forms) form.dispatchEvent(new Event("input"));
});
key.addEventListener("change", () => api.paths ?? load());
addEventListener("hashchange", openLinked);
// A picture dropped beside its field must not replace the page.
for (const event of ["dragover", "drop"])
  addEventListener(event, (dropped) => dropped.preventDefault());
load();
