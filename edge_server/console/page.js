// What the server's pages share: elements, requests, and the same requests for a shell.
// Whatever comes from the server or the user enters a page as text, never as markup.

const key = document.getElementById("key");
const NO_PICTURE = "<picture>";

// ---- elements

/** An element; attributes `on…` are listeners, children may be texts, lists and gaps. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== false && child != null));
  return element;
}

/** Words with `code` in backticks, as elements. */
export const prose = (text = "") =>
  String(text).split(/``(.+?)``|`(.+?)`/)
    .map((part, at) => part && (at % 3 ? h("code", {}, part) : part));

export const badge = (text, tone = "") => h("span", { class: `badge ${tone}` }, text);
export const notice = (tone, text) => h("p", { class: `notice ${tone}`, role: "alert" }, text);
export const statusTone = (status) =>
  ({ 2: "good", 3: "info", 4: "warn" })[String(status)[0]] ?? "bad";

/** A disclosure whose content is made just before it first opens; so endless schemas end. */
export function fold(attributes, summary, content) {
  const fill = () => element.children.length === 1 && element.append(...safely(content));
  const title = h("summary", { onclick: fill }, summary);
  const element = h("details", { ...attributes, ontoggle: fill }, title);
  return element;
}

/** What `make` returns as a list; an error in it costs one part of the page, not the page. */
export function safely(make) {
  try {
    return [make()].flat(Infinity).filter(Boolean);
  } catch (error) {
    return [notice("warn", `This part cannot be shown: ${error.message}`)];
  }
}

/** Copies by selection: the clipboard API is missing on plain http, where boxes are. */
export function copyText(element, button) {
  getSelection().selectAllChildren(element);
  button.textContent = document.execCommand("copy") ? "Copied" : "Press Ctrl+C";
  setTimeout(() => { button.textContent = "Copy"; }, 2000);
}

// ---- requests
// A request is {method, url, headers, carrier, file, text}. Its carrier says what the body is
// made from: `text`, in which a picture may stand; or the file as it is, in base64, in a form.

export const authorization = () => (key.value ? { Authorization: `Bearer ${key.value}` } : {});

/** How a picture stands in the text of a body until it is sent. */
export function standIn(file) {
  if (!file) return NO_PICTURE;
  const kilobytes = Math.ceil(file.size / 1000);
  const size = kilobytes < 1000 ? `${kilobytes} kB` : `${(kilobytes / 1000).toFixed(1)} MB`;
  return `<${file.name}, ${size}>`;
}

export const lacksPicture = ({ text }) => Boolean(text?.includes(JSON.stringify(NO_PICTURE)));

/** Sends a request with the key. */
export async function send({ method, url, headers, ...body }) {
  return fetch(url, {
    method: method.toUpperCase(),
    headers: { ...headers, ...authorization() },
    body: await encode(body),
  });
}

async function encode({ carrier, file, text }) {
  if (carrier === "file") return file;
  if (carrier === "base64") return base64(file);
  if (carrier === "form") {
    const form = new FormData();
    form.append("file", file);
    return form;
  }
  const place = JSON.stringify(standIn(file));
  return file && text.includes(place) ? text.replaceAll(place, `"${await base64(file)}"`) : text;
}

function base64(file) {
  return new Promise((done, failed) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => failed(reader.error);
    reader.readAsDataURL(file);
  });
}

/** The same request for a shell. A here-document, because an argument holds 128 kB at most. */
export function curl({ method, url, headers, carrier, file, text }) {
  const fields = Object.entries(headers).map(([name, value]) => `${name}: ${value}`);
  const options = fields.map((field) => `-H ${quote(field)}`);
  if (key.value) options.push('-H "Authorization: Bearer $EDGE_SERVER_KEY"');
  if (carrier === "form") options.push(`-F file=@${quote(file.name)}`);
  if (carrier === "file") options.push(`--data-binary @${quote(file.name)}`);
  const encoded = file && `$(base64 < ${quote(file.name)})`;
  const parts = carrier === "text" ? compact(text).split(JSON.stringify(standIn(file))) : [];
  let here = carrier === "base64" && encoded;
  if (file && parts.length > 1)
    here = parts.map((part) => part.replace(/[\\$`]/g, "\\$&")).join(`"${encoded}"`);
  else if (carrier === "text") options.push(`-d ${quote(compact(text))}`);
  if (here) options.push(`-d @- <<END\n${here}\nEND`);
  const implied = method === "get" || carrier;
  const verb = method === "head" ? "-I " : implied ? "" : `-X ${method.toUpperCase()} `;
  return [`curl ${verb}${quote(url)}`, ...options].join(" \\\n  ");
}

const quote = (text) =>
  /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;

function compact(text) {
  const value = parsed(text);
  return value === undefined ? text : JSON.stringify(value);
}

export function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** The server's reason for a refusal: a message, or the violations of a schema. */
export function messageOf(value) {
  const reason = value?.message ?? value?.detail;
  if (!Array.isArray(reason)) return reason && String(reason);
  return reason.map(({ loc, msg }) => `${(loc ?? []).join(".")}: ${msg}`).join("; ");
}
