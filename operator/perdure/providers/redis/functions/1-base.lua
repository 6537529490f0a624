-- Perdure's operations on Redis, each atomic. The files of this folder, in the order of their names, are one library;
-- VERSION is replaced by a hash of its text, so that hosts of several versions can share a server.
--
-- A Lua error in the middle leaves partial writes: each function checks everything before its first write. Numbers are
-- doubles: exact to 2^53, so sequences and milliseconds may be numbers, counters may not. All keys that a function
-- touches are among its KEYS: while a Redis Cluster moves a slot, undeclared ones would be taken for missing.

-- The keys of an instance, in the order of `Keys.instance` in keys.py; buckets follow, each with its own.
local INSTANCE, JOURNAL, UNAPPLIED, RESULTS, EXPIRY, PRIVATE, NAMES = 1, 2, 3, 4, 5, 6, 7
local SNAPSHOT, BLOBS, BLOB_ENDS, INBOX, ORDER, DUE, USED = 8, 9, 10, 11, 12, 13, 14
local INSTANCE_KEYS, BUCKET_KEYS = 14, 5

-- `unpack` takes no more than a few thousand values.
local BATCH = 1000
local CLEARED_AT_ONCE = 100

local function now_ms()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

local function whole(number)
  return string.format('%.0f', number)
end

local function has(flags, letter)
  return string.find(flags, letter, 1, true) ~= nil
end

local function owned(keys, epoch, nonce)
  local token = redis.call('HMGET', keys[INSTANCE], 'e', 'n')
  return token[1] == epoch and token[2] == nonce
end

-- Whether a result is stored under an idempotency key.
local function finished(keys, key, now)
  local ends = redis.call('ZSCORE', keys[EXPIRY], key)
  return ends and tonumber(ends) > now
end

-- Brings the index of who has something to do up to date: after every change of what it is computed from.
local function refresh_due(keys, name)
  local at = nil
  if redis.call('HEXISTS', keys[INSTANCE], 'x') == 0 then
    if redis.call('HGET', keys[INSTANCE], 'o') == '1' or redis.call('EXISTS', keys[UNAPPLIED]) == 1 then
      at = '0'
    else
      at = redis.call('ZRANGE', keys[ORDER], 0, 0, 'WITHSCORES')[2]
    end
  end
  if at then
    redis.call('ZADD', keys[DUE], at, name)
  else
    redis.call('ZREM', keys[DUE], name)
  end
end

local function register(name, callback, flags)
  redis.register_function({ function_name = 'perdure_' .. name .. '_VERSION', callback = callback, flags = flags })
end

-- What reads, and what frees memory, is not refused for lack of it. It is no 'no-writes' function: a primary that has
-- become a replica must refuse it, since what it holds may be old.
local ALWAYS = { 'allow-oom' }
