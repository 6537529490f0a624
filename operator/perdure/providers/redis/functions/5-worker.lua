-- What anyone may ask about an instance, and what belongs to the Worker as a whole.

-- args: idempotency key → fingerprint and body in one string, or nil
local function result(keys, args)
  if not finished(keys, args[1], now_ms()) then return nil end
  return redis.call('HGET', keys[RESULTS], args[1])
end

-- keys: the index of names; args: start (- or (cursor), limit
local function names(keys, args)
  return redis.call('ZRANGE', keys[1], args[1], '+', 'BYLEX', 'LIMIT', 0, args[2])
end

-- → epoch, nonce, host, sequence, component, halt, snapshot's sequence and bytes, records, their bytes, parts, pending,
-- its time in the index of what is due; args: name
local function info(keys, args)
  local held = redis.call('HMGET', keys[INSTANCE], 'e', 'n', 'h', 's', 'c', 'x', 'ss', 'sb')
  local records, bytes = redis.call('LLEN', keys[JOURNAL]), 0
  for start = 0, records - 1, BATCH do
    for _, stored in ipairs(redis.call('LRANGE', keys[JOURNAL], start, start + BATCH - 1)) do
      local outcomes = outcomes_of(stored)
      bytes = bytes + #stored - (string.sub(stored, 1, 2) == 'PR' and 6 + #outcomes or 0)
    end
  end
  held[9], held[10] = records, bytes
  held[11], held[12] = redis.call('LLEN', keys[SNAPSHOT]), redis.call('ZCARD', keys[ORDER])
  held[13] = redis.call('ZSCORE', keys[DUE], args[1])
  return held
end

-- args: after, limit → sequence, number of records, records; or nil
local function journal(keys, args)
  local sequence = tonumber(redis.call('HGET', keys[INSTANCE], 's') or '0')
  if sequence == 0 then return nil end
  local length = redis.call('LLEN', keys[JOURNAL])
  local start, limit = math.max(tonumber(args[1]) - (sequence - length), 0), tonumber(args[2])
  local records = limit > 0 and redis.call('LRANGE', keys[JOURNAL], start, start + limit - 1) or {}
  return { whole(sequence), length, records }
end

-- keys: blobs; args: digests
local function blobs(keys, args)
  return redis.call('HMGET', keys[1], unpack(args))
end

-- The base names of an instance's private buckets.
local function private(keys)
  return redis.call('SMEMBERS', keys[PRIVATE])
end

-- keys: an instance, then its private buckets, then a note's bucket; args: name, for a parting epoch and nonce, for a
-- note the effect → GONE, NONE, FENCED, WRONG, or AGAIN if there are other private buckets
local function delete(keys, args)
  local bases = redis.call('SMEMBERS', keys[PRIVATE])
  local last = #keys - (args[4] and BUCKET_KEYS or 0)
  if #bases * BUCKET_KEYS ~= last - INSTANCE_KEYS then return 'AGAIN' end
  for at = INSTANCE_KEYS + 1, last, BUCKET_KEYS do
    if redis.call('SISMEMBER', keys[PRIVATE], keys[at]) == 0 then return 'AGAIN' end
  end
  if args[2] then
    if redis.call('EXISTS', keys[INSTANCE]) == 0 then return 'NONE' end
    if not owned(keys, args[2], args[3]) then return 'FENCED' end
    local wrong = check_buckets(keys, last + 1, #keys)
    if wrong then return 'WRONG ' .. wrong end
    apply_effects(keys, last, args, 4, {})
  end
  local held = redis.call('HMGET', keys[INSTANCE], 's', 'c', 'x')
  local there = held[1] or held[3] or redis.call('EXISTS', keys[ORDER], keys[JOURNAL], keys[SNAPSHOT]) > 0
  if held[2] then change_component(keys, held[2], nil) end
  redis.call('ZREM', keys[NAMES], args[1])
  redis.call('ZREM', keys[DUE], args[1])
  for at = INSTANCE_KEYS + 1, last do redis.call('UNLINK', keys[at]) end
  redis.call('UNLINK', keys[INSTANCE], keys[JOURNAL], keys[UNAPPLIED], keys[RESULTS], keys[EXPIRY], keys[PRIVATE],
    keys[SNAPSHOT], keys[BLOBS], keys[BLOB_ENDS], keys[INBOX], keys[ORDER])
  return there and 'GONE' or 'NONE'
end

-- keys: any of the Worker's. It changes nothing, but is refused wherever a commit would be.
local function ping()
  return 'PONG'
end

-- keys: hosts, their expiry; args: host, url, ttl in ms → host, url, host, url…
local function announce(keys, args)
  local now = now_ms()
  redis.call('HSET', keys[1], args[1], args[2])
  redis.call('ZADD', keys[2], now + tonumber(args[3]), args[1])
  for _, host in ipairs(redis.call('ZRANGEBYSCORE', keys[2], '-inf', now)) do
    redis.call('HDEL', keys[1], host)
    redis.call('ZREM', keys[2], host)
  end
  return redis.call('HGETALL', keys[1])
end

-- keys: hosts, their expiry; args: host
local function leave(keys, args)
  redis.call('HDEL', keys[1], args[1])
  return redis.call('ZREM', keys[2], args[1])
end

-- keys: numbers of instances by component, bytes of components; args: digest, those that are spared → whether its bytes
-- are kept
local function drop_components(keys, args)
  local spared = {}
  for _, digest in ipairs(args) do spared[digest] = true end
  for _, digest in ipairs(redis.call('HKEYS', keys[2])) do
    if not spared[digest] and redis.call('HEXISTS', keys[1], digest) == 0 then redis.call('HDEL', keys[2], digest) end
  end
  return redis.call('HEXISTS', keys[2], args[1])
end

-- keys: bytes of components; args: digest, bytes
local function keep_component(keys, args)
  return redis.call('HSET', keys[1], args[1], args[2])
end

-- keys: bytes of components; args: digest
local function component(keys, args)
  return redis.call('HGET', keys[1], args[1])
end

-- keys: numbers of instances by component → digest, number, …
local function components(keys)
  return redis.call('HGETALL', keys[1])
end

register('result', result, ALWAYS)
register('names', names, ALWAYS)
register('info', info, ALWAYS)
register('journal', journal, ALWAYS)
register('blobs', blobs, ALWAYS)
register('private', private, ALWAYS)
register('delete', delete, ALWAYS)
register('ping', ping)
register('announce', announce)
register('leave', leave, ALWAYS)
register('drop_components', drop_components, ALWAYS)
register('keep_component', keep_component)
register('component', component, ALWAYS)
register('components', components, ALWAYS)
