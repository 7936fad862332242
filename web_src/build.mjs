// Builds what ComfyUI serves: web/sightline.js (entry, tiny) and web/lib/editor.mjs (editor and three.js).
// Not minified, so that reviewers and scanners can read it. Run: npm install && npm run build
import { build } from "esbuild";
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const web = process.argv[2] ?? join(here, "..", "web");
const shared = {
  bundle: true,
  format: "esm",
  target: "es2022",
  charset: "utf8",
  legalComments: "inline",
  logLevel: "warning",
  absWorkingDir: here,
  banner: { js: "// Built from web_src/ of ComfyUI-Sightline (Apache-2.0). Do not edit: change the sources and build." },
};

mkdirSync(join(web, "lib"), { recursive: true });
await build({
  ...shared,
  entryPoints: ["src/host/entry.ts"],
  outfile: join(web, "sightline.js"),
  external: ["../../scripts/*", "./lib/*"],
});
await build({ ...shared, entryPoints: ["src/main.ts"], outfile: join(web, "lib", "editor.mjs") });

const licence = readFileSync(join(here, "node_modules", "three", "LICENSE"), "utf8");
const { version } = JSON.parse(readFileSync(join(here, "node_modules", "three", "package.json"), "utf8"));
writeFileSync(join(web, "lib", "THIRD_PARTY.txt"), `lib/editor.mjs contains parts of three.js ${version}:\n\n${licence}`);
