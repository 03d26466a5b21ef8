// Reads a file with Netron's own reader of GE models and prints what it found as JSON.
// Arguments: the folder of Netron's modules, the file.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const [folder, path] = process.argv.slice(2);
const load = (name) => import(pathToFileURL(join(folder, name)).href);
const base = await load('base.js');
const om = await load('om.js');

const types = JSON.parse(readFileSync(join(folder, 'om-metadata.json'), 'utf-8'));
const context = {
  stream: new base.BinaryStream(new Uint8Array(readFileSync(path))),
  require: (name) => load(`${name}.js`),
  metadata: async () => ({ type: (name) => types.find((type) => type.name === name) }),
  set(kind, value) {
    this.value = value;
    return kind;
  },
};

const factory = new om.ModelFactory();
if ((await factory.match(context)) !== 'om') {
  throw new Error(`${path} is no model for Netron`);
}
const model = await factory.open(context);
const described = (value) => ({
  name: value.name,
  type: value.type ? value.type.toString() : null,
  bytes: value.initializer ? value.initializer.values.length : null,
});
const plain = (key, value) => (typeof value === 'bigint' ? Number(value) : value);
const graphs = model.modules.map((graph) => ({
  name: graph.name,
  nodes: graph.nodes.map((node) => ({
    name: node.name,
    type: node.type.name,
    inputs: node.inputs.flatMap((argument) => argument.value.map(described)),
    outputs: node.outputs.flatMap((argument) => argument.value.map(described)),
    attributes: Object.fromEntries(node.attributes.map((each) => [each.name, each.value])),
  })),
}));
console.log(JSON.stringify(graphs, plain));
