// Reads what a test hands over with a standard's own parser and writes its findings as JSON: node read.mjs TOOL [ARGUMENT] <INPUT
import { readFileSync } from "node:fs";

const text = () => readFileSync(0, "utf8");

/** Ajv for JSON Schema 2020-12; refuses keywords that it does not know. */
async function strict(options) {
  const { default: Ajv } = await import("ajv/dist/2020.js");
  const { default: formats } = await import("ajv-formats");
  return formats(new Ajv({ strict: true, strictTypes: false, strictTuples: false, allErrors: true, ...options }));
}

/** Faults of a schema, and of examples against it. */
function faults(ajv, schema, examples, path) {
  try {
    const check = ajv.compile({ $ref: schema });
    return examples.flatMap((value) => (check(value) ? [] : check.errors.map((one) => ({ path: path + one.instancePath, message: one.message }))));
  } catch (error) {
    return [{ path, message: error.message }];
  }
}

/** Every schema of an OpenAPI document with its examples: [pointer, examples]. */
function* described(node, path) {
  if (typeof node !== "object" || node === null) return;
  if (typeof node.schema === "object") {
    const examples = Object.values(node.examples ?? {}).map((one) => one.value);
    yield [`${path}/schema`, "example" in node ? [node.example, ...examples] : examples];
  }
  if (Array.isArray(node.examples)) yield [path, node.examples];
  for (const [name, inner] of Object.entries(node)) {
    if (name !== "example" && name !== "examples") yield* described(inner, `${path}/${encodeURIComponent(name.replaceAll("~", "~0").replaceAll("/", "~1"))}`);
  }
}

const TOOLS = {
  /** Errors of an AsyncAPI document in a file; references are followed. [{ path, message }] */
  async asyncapi(path) {
    const { Parser, fromFile, DiagnosticSeverity } = await import("@asyncapi/parser");
    const { diagnostics } = await fromFile(new Parser(), path).parse();
    return diagnostics.filter((one) => one.severity === DiagnosticSeverity.Error)
      .map((one) => ({ path: one.path.join("."), message: one.message }));
  },

  /** Errors of an OpenAPI 3.1 document, of its schemas by Ajv's strict mode, and of its examples against them. [{ path, message }] */
  async openapi() {
    const { Validator } = await import("@seriousme/openapi-schema-validator");
    const document = JSON.parse(text());
    const { valid, errors } = await new Validator().validate(structuredClone(document));
    if (!valid) {
      return typeof errors === "string" ? [{ path: "", message: errors }]
        : errors.map((one) => ({ path: one.instancePath, message: one.message }));
    }
    const ajv = await strict({});
    ajv.addVocabulary(["discriminator", "example", "openapi", "info", "paths", "components", "servers", "tags"]);
    ajv.addSchema(document, "document");
    return [...described(document, "#")].flatMap(([path, examples]) => faults(ajv, `document${path}`, examples, path));
  },

  /** Errors of Ajv's strict mode in JSON Schemas, and of examples against them: { schemas: [], examples: [[path, $id, value]] } */
  async schemas() {
    const { schemas, examples } = JSON.parse(text());
    const ajv = await strict({});
    ajv.addSchema(schemas);
    return [...schemas.flatMap(({ $id }) => faults(ajv, $id, [], $id)), ...examples.flatMap(([path, $id, value]) => faults(ajv, $id, [value], path))];
  },

  /** Faults of messages by the official verifier of Standard Webhooks: [{ secret, body, headers }] -> [null | message] */
  async webhooks() {
    const { Webhook } = await import("standardwebhooks");
    return JSON.parse(text()).map(({ secret, body, headers }) => {
      try {
        new Webhook(secret).verify(body, headers);
        return null;
      } catch (error) {
        return String(error.message);
      }
    });
  },

  /** A playlist as m3u8-parser of Video.js sees it; its warnings as `warnings`. */
  async m3u8() {
    const { Parser } = await import("m3u8-parser");
    const parser = new Parser();
    const warnings = [];
    parser.on("warn", ({ message }) => warnings.push(message));
    parser.push(text());
    parser.end();
    return { ...parser.manifest, warnings };
  },

  /** A DASH manifest as mpd-parser of Video.js sees it, its addresses resolved; its warnings as `warnings`. */
  async mpd(address) {
    const { parse } = await import("mpd-parser");
    const warnings = [];
    const eventHandler = ({ type, message }) => { if (type === "warn") warnings.push(message); };
    return { ...parse(text(), { manifestUri: address, eventHandler }), warnings };
  },

  /** Subtitles as the validator of the WebVTT working group sees them: { cues: [{ startTime, endTime, text }], errors: [{ message, line }] } */
  async webvtt() {
    const { WebVTTParser } = (await import("webvtt-parser")).default;
    const entities = { "&amp;": "&", "&lt;": "<", "&gt;": ">", "&nbsp;": "\u00a0", "&lrm;": "\u200e", "&rlm;": "\u200f" };
    const { cues, errors } = new WebVTTParser(entities).parse(text(), "subtitles");
    const said = (node) => (node.type === "text" ? node.value : (node.children ?? []).map(said).join(""));
    return { cues: cues.map(({ startTime, endTime, tree }) => ({ startTime, endTime, text: said(tree) })), errors };
  },
};

const [tool, argument] = process.argv.slice(2);
process.stdout.write(JSON.stringify(await TOOLS[tool](argument)));
