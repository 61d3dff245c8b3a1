// Asks a service with OpenAI's own package, and prints what came as JSON: node client.js BASE_URL IMAGE
import { createReadStream } from "node:fs";
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "none", maxRetries: 0 });
const asked = { prompt: "a red taco", n: 2, seed: 7, candidates: 3 };

const whole = await client.images.generate(asked);

const stream = [];
for await (const event of await client.images.generate({ ...asked, stream: true, partial_images: 3 })) stream.push(event);

async function refusal(fields) {
  try {
    await client.images.generate({ ...asked, ...fields });
  } catch (error) {
    return { status: error.status, param: error.param, code: error.code, kind: error.constructor.name };
  }
  return null;
}

const left = await client.images.generate({ ...asked, n: 1, candidates: 64, stream: true, partial_images: 3 });
for await (const event of left) if (event) break; // which ends the connection

const edit = await client.images.edit({ image: createReadStream(process.argv[3]), prompt: "a red taco" });

console.log(JSON.stringify({
  whole: whole.data.map((image) => image.b64_json),
  stream,
  refusals: [await refusal({ n: 11 }), await refusal({ steps: 3 }), await refusal({ model: "gpt-image-1" })],
  edit: edit.data.length,
}));
