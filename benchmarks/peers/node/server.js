// rate-limiter-flexible with ioredis behind Node's own HTTP server, with the headers its documentation shows.
// Environment: PORT, REDIS_URL, AUTO_PIPELINING ("true" or unset).
'use strict';

const http = require('node:http');
const { Redis } = require('ioredis');
const { RateLimiterRedis } = require('rate-limiter-flexible');

const POINTS = 1000000;
const storeClient = new Redis(process.env.REDIS_URL, {
  enableOfflineQueue: false,
  enableAutoPipelining: process.env.AUTO_PIPELINING === 'true',
});
const limiter = new RateLimiterRedis({ storeClient, keyPrefix: 'rlflx', points: POINTS, duration: 3600 });

function answer(response, status, content, headers) {
  const body = JSON.stringify(content);
  response.writeHead(status, {
    'Content-Type': 'application/json',
    'Content-Length': Buffer.byteLength(body),
    ...headers,
  });
  response.end(body);
}

function decided(response, result, allowed) {
  const headers = {
    'X-RateLimit-Limit': POINTS,
    'X-RateLimit-Remaining': result.remainingPoints,
    'X-RateLimit-Reset': Math.ceil((Date.now() + result.msBeforeNext) / 1000),
  };
  if (!allowed) headers['Retry-After'] = Math.ceil(result.msBeforeNext / 1000);
  const content = { allowed, remaining: result.remainingPoints, retry_after_ms: allowed ? 0 : result.msBeforeNext };
  answer(response, allowed ? 200 : 429, content, headers);
}

function check(body, response) {
  let clientId;
  try {
    clientId = JSON.parse(body).client_id;
  } catch {
    return answer(response, 400, { error: 'not JSON' });
  }
  if (typeof clientId !== 'string') return answer(response, 422, { error: 'client_id' });
  return limiter.consume(clientId).then(
    (result) => decided(response, result, true),
    (refusal) =>
      refusal instanceof Error
        ? answer(response, 503, { error: 'Redis is not available' })
        : decided(response, refusal, false),
  );
}

const server = http.createServer((request, response) => {
  if (request.method !== 'POST' || request.url !== '/v1/check') return answer(response, 404, { error: 'not found' });
  let body = '';
  request.setEncoding('utf8');
  request.on('data', (part) => { body += part; });
  return request.on('end', () => check(body, response));
});

storeClient.once('ready', () => server.listen(Number(process.env.PORT), '127.0.0.1'));
