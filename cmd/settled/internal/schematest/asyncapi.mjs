// Validates an AsyncAPI document: node asyncapi.mjs FILE. `make contract` installs the parser.
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";

const { document, diagnostics } = await new Parser().parse(readFileSync(process.argv[2], "utf8"));
const problems = diagnostics.filter((d) => d.severity <= 1); // errors and warnings
for (const d of problems) console.error(`${d.path.join(".")}: ${d.message}`);
if (!document || problems.length > 0) process.exit(1);
console.log(`${document.info().title()}: ${document.allChannels().length} channels, ${document.allMessages().length} messages`);
