// The methods of client.videos of the real `openai` for JavaScript. Prints "ok" as its last line.
//   node openai_client.mjs http://127.0.0.1:8000/v1 KEY
import assert from "node:assert";
import fs from "node:fs";
import { createRequire } from "node:module";

const [, , address, apiKey, modules] = process.argv;
const require = createRequire(`${modules}/`);
const { default: OpenAI, toFile } = await import(require.resolve("openai").replace(/\.js$/, ".mjs"));
const client = new OpenAI({ apiKey, baseURL: address });
const prompt = "a red ball bounces on the grass at sunset";

let video = await client.videos.create({ prompt, model: "sora-2", seconds: "1", seed: 7, num_steps: 8 });
while (video.status === "queued" || video.status === "in_progress") {
  await new Promise((resolve) => setTimeout(resolve, 200));
  video = await client.videos.retrieve(video.id);
}
assert.equal(video.status, "completed", JSON.stringify(video));
assert.equal(video.seed, 7);
const content = Buffer.from(await (await client.videos.downloadContent(video.id)).arrayBuffer());
assert.equal(content.subarray(4, 8).toString(), "ftyp");
const picture = Buffer.from(
  await (await client.videos.downloadContent(video.id, { variant: "thumbnail" })).arrayBuffer(),
);
assert.equal(picture.subarray(8, 12).toString(), "WEBP");
const others = [];
others.push(await client.videos.create({ prompt, paused: true }));
others.push(await client.videos.remix(video.id, { prompt: "it is night", paused: true }));
const image_url = `data:image/webp;base64,${picture.toString("base64")}`;
others.push(await client.videos.create({ prompt, input_reference: { image_url }, paused: true }));
others.push(await client.videos.create({ prompt, input_reference: await toFile(picture, "a.webp"), paused: true }));
others.push(await client.videos.edit({ prompt: "it is night", video: { id: video.id }, paused: true }));
others.push(await client.videos.extend({ prompt, seconds: "4", video: { id: video.id }, paused: true }));
const file = await client.files.create({ file: await toFile(picture, "b.webp"), purpose: "vision" });
const files = [];
for await (const one of client.files.list({ limit: 1 })) files.push(one);
assert.ok(files.length > 1 && files[0].id === file.id && files[0].filename === "b.webp");
assert.equal((await client.files.delete(file.id)).deleted, true);
const found = [];
for await (const one of client.videos.list({ limit: 2 })) found.push(one.id);
assert.deepEqual(found, [...others.map((one) => one.id).reverse(), video.id]);
for (const one of [...others, video]) {
  const gone = await client.videos.delete(one.id);
  assert.equal(gone.deleted, true);
}
await assert.rejects(client.videos.retrieve("video_none"), (error) => {
  assert.equal(error.status, 404);
  assert.equal(error.code, "not_found");
  assert.ok(error.requestID);
  return error instanceof OpenAI.NotFoundError;
});
await assert.rejects(client.videos.create({ prompt, size: "0x0" }), (error) => error.param === "size");
console.log("ok");
