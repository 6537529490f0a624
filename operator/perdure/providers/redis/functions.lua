-- Perdure's operations on Redis, each atomic. VERSION is replaced by a hash of this text, so that hosts of several
-- versions can share a server. A Lua error in the middle would leave partial writes: everything is checked before
-- the first one. Instance keys: 1 token, 2 journal, 3 unapplied, 4 results, 5 results' expiry, 6 private buckets,
-- 7 index of instances; buckets follow as triples (values, key index, expiry).

local INSTANCE_KEYS = 7
local CLEARED_PER_COMMIT = 100

local function now_ms()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

local function owned(keys, epoch, nonce)
  local token = redis.call('HMGET', keys[1], 'e', 'n', 's')
  return token[1] == epoch and token[2] == nonce, tonumber(token[3] or '0')
end

-- Effects from args[first] on: kind (P or D), number of the bucket, key, value, ttl in ms or ''.
local function check_effects(keys, offset)
  for at = offset + 1, #keys, 3 do
    local kind = redis.call('TYPE', keys[at]).ok
    if kind ~= 'hash' and kind ~= 'none' then return keys[at] .. ' holds a ' .. kind end
  end
  return nil
end

local function clear_expired(values, index, expiry, now)
  local gone = redis.call('ZRANGEBYSCORE', expiry, '-inf', now, 'LIMIT', 0, CLEARED_PER_COMMIT)
  for _, key in ipairs(gone) do
    redis.call('HDEL', values, key)
    redis.call('ZREM', index, key)
    redis.call('ZREM', expiry, key)
  end
end

local function apply_effects(keys, offset, args, first, now)
  for at = first, #args, 5 do
    local base = offset + 3 * (tonumber(args[at + 1]) - 1)
    local values, index, expiry = keys[base + 1], keys[base + 2], keys[base + 3]
    local key, ttl = args[at + 2], args[at + 4]
    if args[at] == 'P' then
      redis.call('HSET', values, key, args[at + 3])
      redis.call('ZADD', index, 0, key)
      if ttl ~= '' then
        redis.call('ZADD', expiry, now + tonumber(ttl), key)
      else
        redis.call('ZREM', expiry, key)
      end
    else
      redis.call('HDEL', values, key)
      redis.call('ZREM', index, key)
      redis.call('ZREM', expiry, key)
    end
  end
  for at = offset + 1, #keys, 3 do
    clear_expired(keys[at], keys[at + 1], keys[at + 2], now)
  end
end

-- args: nonce, host → epoch, life, sequence, previous host, journal, unapplied
local function claim(keys, args)
  local held = redis.call('HMGET', keys[1], 'e', 'n', 'h', 's', 'l')
  local epoch, life = tonumber(held[1] or '0'), held[5] or args[1]
  if held[2] ~= args[1] then
    epoch = epoch + 1
    redis.call('HSET', keys[1], 'e', epoch, 'n', args[1], 'h', args[2], 'l', life)
  end
  return { tostring(epoch), life, held[4] or '0', held[3] or '',
    redis.call('LRANGE', keys[2], 0, -1), redis.call('SMEMBERS', keys[3]) }
end

-- args: epoch, nonce → OWNED or FENCED
local function verify(keys, args)
  if owned(keys, args[1], args[2]) then return 'OWNED' end
  return 'FENCED'
end

-- args: epoch, nonce, sequence, entry, foreign, name, private bases, result key or '', fingerprint, body,
-- retention in ms, most results, whether there is a result, effects…
local function commit(keys, args)
  local mine, stored = owned(keys, args[1], args[2])
  if not mine then return 'FENCED' end
  local sequence = tonumber(args[3])
  if sequence == stored then return 'DUPLICATE' end
  if sequence ~= stored + 1 then return 'GAP ' .. stored end
  local wrong = check_effects(keys, INSTANCE_KEYS)
  if wrong then return 'WRONG ' .. wrong end
  local now = now_ms()
  apply_effects(keys, INSTANCE_KEYS, args, 14, now)
  redis.call('RPUSH', keys[2], args[4])
  redis.call('HSET', keys[1], 's', args[3])
  if args[5] == '1' then redis.call('SADD', keys[3], args[3]) end
  if sequence == 1 then redis.call('ZADD', keys[7], 0, args[6]) end
  for base in string.gmatch(args[7], '[^\n]+') do redis.call('SADD', keys[6], base) end
  if args[13] == '1' then
    redis.call('HSET', keys[4], args[8], args[9] .. args[10])
    redis.call('ZADD', keys[5], now + tonumber(args[11]), args[8])
    local old = redis.call('ZRANGEBYSCORE', keys[5], '-inf', now, 'LIMIT', 0, CLEARED_PER_COMMIT)
    local over = redis.call('ZCARD', keys[5]) - tonumber(args[12])
    if over > 0 then
      for _, key in ipairs(redis.call('ZRANGE', keys[5], 0, math.min(over, CLEARED_PER_COMMIT) - 1)) do
        old[#old + 1] = key
      end
    end
    for _, key in ipairs(old) do
      redis.call('HDEL', keys[4], key)
      redis.call('ZREM', keys[5], key)
    end
  end
  return 'APPLIED'
end

-- args: epoch, nonce, sequence
local function applied(keys, args)
  if not owned(keys, args[1], args[2]) then return 'FENCED' end
  redis.call('SREM', keys[3], args[3])
  return 'OK'
end

-- args: idempotency key → fingerprint and body in one string, or nil
local function result(keys, args)
  local expires = redis.call('ZSCORE', keys[5], args[1])
  if not expires or tonumber(expires) <= now_ms() then return nil end
  return redis.call('HGET', keys[4], args[1])
end

-- keys: marks, then buckets; args: origin, sequence, effects…
local function foreign(keys, args)
  local mark = tonumber(redis.call('HGET', keys[1], args[1]) or '0')
  if tonumber(args[2]) <= mark then return 'DUPLICATE' end
  local wrong = check_effects(keys, 1)
  if wrong then return 'WRONG ' .. wrong end
  apply_effects(keys, 1, args, 3, now_ms())
  redis.call('HSET', keys[1], args[1], args[2])
  return 'APPLIED'
end

-- keys: one bucket; args: keys → values, false where missing or expired
local function read(keys, args)
  local has_expiry = redis.call('EXISTS', keys[3]) == 1
  local now = has_expiry and now_ms()
  local found = {}
  for at, key in ipairs(args) do
    local value = redis.call('HGET', keys[1], key)
    if value and has_expiry then
      local expires = redis.call('ZSCORE', keys[3], key)
      if expires and tonumber(expires) <= now then value = false end
    end
    found[at] = value
  end
  return found
end

-- keys: one bucket; args: start (- or (cursor), limit → live keys in byte order, whether there are more
local function list(keys, args)
  local limit, start, found = tonumber(args[2]), args[1], {}
  local has_expiry = redis.call('EXISTS', keys[3]) == 1
  local now = has_expiry and now_ms()
  while true do
    local page = redis.call('ZRANGE', keys[2], start, '+', 'BYLEX', 'LIMIT', 0, limit + 1)
    for _, key in ipairs(page) do
      local expires = has_expiry and redis.call('ZSCORE', keys[3], key)
      if not expires or tonumber(expires) > now then
        if #found == limit then return { found, 1 } end
        found[#found + 1] = key
      end
    end
    if #page <= limit then return { found, 0 } end
    start = '(' .. page[#page]
  end
end

-- args: name
local function delete(keys, args)
  local there = redis.call('ZREM', keys[7], args[1])
  for _, base in ipairs(redis.call('SMEMBERS', keys[6])) do
    redis.call('UNLINK', base, base .. ':k', base .. ':x')
  end
  redis.call('UNLINK', keys[1], keys[2], keys[3], keys[4], keys[5], keys[6])
  return there
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

redis.register_function('perdure_claim_VERSION', claim)
redis.register_function('perdure_verify_VERSION', verify)
redis.register_function('perdure_commit_VERSION', commit)
redis.register_function('perdure_applied_VERSION', applied)
redis.register_function('perdure_result_VERSION', result)
redis.register_function('perdure_foreign_VERSION', foreign)
redis.register_function('perdure_read_VERSION', read)
redis.register_function('perdure_list_VERSION', list)
redis.register_function('perdure_delete_VERSION', delete)
redis.register_function('perdure_announce_VERSION', announce)
