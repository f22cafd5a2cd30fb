// What programs do with the AWS SDK for JavaScript, version 3: run as `javascript_jobs.cjs JOB`.
"use strict";

const assert = require("node:assert/strict");
const { createHash } = require("node:crypto");
const { Readable } = require("node:stream");
const s3 = require("@aws-sdk/client-s3");
const { Upload } = require("@aws-sdk/lib-storage");
const { getSignedUrl } = require("@aws-sdk/s3-request-presigner");

const Bucket = process.env.BUCKET;
const BODY = createHash("shake128", { outputLength: 11 * 1024 * 1024 + 5 }).update("body").digest();
const client = new s3.S3Client({
  endpoint: process.env.AWS_ENDPOINT_URL,
  region: "us-east-1",
  forcePathStyle: true,
  maxAttempts: 1,
});

async function read(Key, more = {}) {
  const answer = await client.send(new s3.GetObjectCommand({ Bucket, Key, ...more }));
  return Buffer.from(await answer.Body.transformToByteArray());
}

async function put(Key, Body, more = {}) {
  return client.send(new s3.PutObjectCommand({ Bucket, Key, Body, ...more }));
}

async function* pieces(size) {
  for (let start = 0; start < BODY.length; start += size) yield BODY.subarray(start, start + size);
}

const jobs = {
  // A stream of unknown length goes up in parts; a stream comes down.
  async transfer() {
    const upload = new Upload({
      client,
      params: { Bucket, Key: "ä/big", Body: Readable.from(pieces(300_000)), ContentType: "x/y", Metadata: { who: "me" } },
      partSize: 5 * 1024 * 1024,
      queueSize: 3,
    });
    let loaded = 0;
    upload.on("httpUploadProgress", (progress) => (loaded = Math.max(loaded, progress.loaded)));
    await upload.done();
    assert.equal(loaded, BODY.length);
    assert.ok((await read("ä/big", { ChecksumMode: "ENABLED" })).equals(BODY));
    assert.equal((await read("ä/big", { Range: "bytes=5-9" })).compare(BODY.subarray(5, 10)), 0);
    const head = await client.send(new s3.HeadObjectCommand({ Bucket, Key: "ä/big" }));
    assert.deepEqual([head.ContentLength, head.ContentType, head.Metadata], [BODY.length, "x/y", { who: "me" }]);
    const part = await client.send(new s3.HeadObjectCommand({ Bucket, Key: "ä/big", PartNumber: 3 }));
    assert.deepEqual([part.PartsCount, part.ContentLength], [3, BODY.length - 10 * 1024 * 1024]);
    await client.send(new s3.CopyObjectCommand({ Bucket, Key: "copy", CopySource: encodeURI(`${Bucket}/ä/big`) }));
    assert.ok((await read("copy")).equals(BODY));
    for (const ChecksumAlgorithm of ["CRC32", "CRC32C", "SHA1", "SHA256"]) {
      await put("sum", Readable.from(pieces(65536)), { ChecksumAlgorithm, ContentLength: BODY.length });
      assert.ok((await read("sum", { ChecksumMode: "ENABLED" })).equals(BODY));
    }
  },

  async aborted_upload() {
    const params = { Bucket, Key: "never", Body: Readable.from(pieces(100_000)) };
    const upload = new Upload({ client, params, partSize: 5 * 1024 * 1024, queueSize: 1 });
    upload.on("httpUploadProgress", () => upload.abort());
    await assert.rejects(upload.done(), { name: "AbortError" });
    await assert.rejects(client.send(new s3.HeadObjectCommand({ Bucket, Key: "never" })), { name: "NotFound" });
  },

  async presign() {
    const Key = "with space/ä";
    const up = await getSignedUrl(client, new s3.PutObjectCommand({ Bucket, Key }), { expiresIn: 60 });
    assert.equal((await fetch(up, { method: "PUT", body: "given" })).status, 200);
    const down = await getSignedUrl(client, new s3.GetObjectCommand({ Bucket, Key }), { expiresIn: 60 });
    assert.equal(await (await fetch(down)).text(), "given");
    assert.equal((await fetch(down, { method: "DELETE" })).status, 403);
  },

  async listing() {
    const keys = ["a/1", "a/2", "b/1", "ä & <c>"];
    for (const key of keys) await put(key, key);
    const found = [];
    for await (const page of s3.paginateListObjectsV2({ client, pageSize: 2 }, { Bucket })) {
      found.push(...page.Contents.map((entry) => entry.Key));
    }
    assert.deepEqual(found, keys);
    const folders = await client.send(new s3.ListObjectsV2Command({ Bucket, Delimiter: "/" }));
    assert.deepEqual(folders.CommonPrefixes.map((entry) => entry.Prefix), ["a/", "b/"]);
    const Delete = { Objects: keys.map((Key) => ({ Key })) };
    const gone = await client.send(new s3.DeleteObjectsCommand({ Bucket, Delete }));
    assert.equal(gone.Deleted.length, keys.length);
    assert.equal((await client.send(new s3.ListObjectsV2Command({ Bucket }))).KeyCount, 0);
    await assert.rejects(read("a/1"), { name: "NoSuchKey" });
  },

  async versions() {
    const VersioningConfiguration = { Status: "Enabled" };
    await client.send(new s3.PutBucketVersioningCommand({ Bucket, VersioningConfiguration }));
    const { VersionId } = await put("k", "first");
    await put("k", "second", { Tagging: "a=b" });
    assert.equal((await read("k", { VersionId })).toString(), "first");
    const tags = await client.send(new s3.GetObjectTaggingCommand({ Bucket, Key: "k" }));
    assert.deepEqual(tags.TagSet, [{ Key: "a", Value: "b" }]);
    await client.send(new s3.DeleteObjectCommand({ Bucket, Key: "k" }));
    const list = await client.send(new s3.ListObjectVersionsCommand({ Bucket }));
    assert.deepEqual([list.Versions.length, list.DeleteMarkers.length], [2, 1]);
    await assert.rejects(put("k2", "x", { IfMatch: '"0"' }), { name: "NoSuchKey" });
    await put("k2", "x", { IfNoneMatch: "*" });
    await assert.rejects(put("k2", "x", { IfNoneMatch: "*" }), { name: "PreconditionFailed" });
  },

  // A profile names a role: the SDK assumes it by itself.
  async role() {
    assert.match((await client.config.credentials()).accessKeyId, /^ASIA/);
    assert.equal((await read("k")).toString(), "for readers");
    await assert.rejects(put("k", "x"), { name: "AccessDenied" });
    const answer = await fetch(await getSignedUrl(client, new s3.GetObjectCommand({ Bucket, Key: "k" })));
    assert.equal(await answer.text(), "for readers");
  },
};

jobs[process.argv[2]]().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
