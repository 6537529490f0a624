-- Buckets. Their keys: values, key index (byte order), expiry of those with a time to live, and those of the feed.

-- What is wrong with the buckets of KEYS[first…last], or nil.
local function check_buckets(keys, first, last)
  for at = first, last, BUCKET_KEYS do
    local kind = redis.call('TYPE', keys[at]).ok
    if kind ~= 'hash' and kind ~= 'none' then return keys[at] .. ' holds a ' .. kind end
  end
  return nil
end

-- By the definition of `counted` in effects.py: canonical decimal text of 64 bits.
local function is_counter(text)
  if text == '0' then return true end
  local sign, digits = string.match(text, '^(%-?)([1-9]%d*)$')
  if not digits then return false end
  if #digits ~= 19 then return #digits < 19 end
  return digits <= (sign == '' and '9223372036854775807' or '9223372036854775808')
end

local function outcome(letter, data)
  return letter .. struct.pack('>I4', #data) .. data
end

-- A bucket while effects are applied. Puts are gathered and written together. clock: `now` once it was asked for. feed:
-- where changes belong, or nil.
local function open_bucket(keys, at, clock, feed)
  return { values = keys[at], index = keys[at + 1], expiry = keys[at + 2], clock = clock, feed = feed,
    expiring = redis.call('EXISTS', keys[at + 2]) == 1, puts = {}, names = {} }
end

local function clock_of(bucket)
  local clock = bucket.clock
  clock.now = clock.now or now_ms()
  return clock.now
end

local function flush(bucket)
  if #bucket.puts == 0 then return end
  redis.call('HSET', bucket.values, unpack(bucket.puts))
  redis.call('ZADD', bucket.index, unpack(bucket.names))
  bucket.puts, bucket.names = {}, {}
end

local function set_ttl(bucket, key, ttl)
  if ttl ~= '' then
    redis.call('ZADD', bucket.expiry, clock_of(bucket) + tonumber(ttl), key)
    bucket.expiring = true
  elseif bucket.expiring then
    redis.call('ZREM', bucket.expiry, key)
  end
end

local function put(bucket, key, value, ttl)
  local puts, names = bucket.puts, bucket.names
  local count = #puts
  puts[count + 1], puts[count + 2] = key, value
  names[count + 1], names[count + 2] = 0, key
  if ttl ~= '' or bucket.expiring then set_ttl(bucket, key, ttl) end
  if bucket.feed then append(bucket.feed, key, value) end
  if count >= BATCH then flush(bucket) end
end

local function remove(bucket, key)
  flush(bucket)
  redis.call('HDEL', bucket.values, key)
  redis.call('ZREM', bucket.index, key)
  if bucket.expiring then redis.call('ZREM', bucket.expiry, key) end
end

-- The live value; an expired one is gone for good.
local function current(bucket, key)
  flush(bucket)
  if bucket.expiring then
    local ends = redis.call('ZSCORE', bucket.expiry, key)
    if ends and tonumber(ends) <= clock_of(bucket) then remove(bucket, key) end
  end
  return redis.call('HGET', bucket.values, key)
end

local function delete_key(bucket, key)
  if bucket.feed and current(bucket, key) then append(bucket.feed, key, false) end
  remove(bucket, key)
end

-- Live keys; those past their time may be among the values still.
local function live(bucket)
  flush(bucket)
  local held = redis.call('HLEN', bucket.values)
  if bucket.expiring then held = held - redis.call('ZCOUNT', bucket.expiry, '-inf', clock_of(bucket)) end
  return held
end

-- Whether so many keys that are missing are more than there is room for.
local function full(bucket, new)
  return bucket.most and new > 0 and live(bucket) + new > bucket.most
end

-- deltas: one or several 64-bit numbers, for a sum beyond 64 bits. HINCRBY is exact; its reply in Lua is not.
local function increment(bucket, key, deltas, ttl)
  local before = current(bucket, key)
  if before and not is_counter(before) then return outcome('e', 'not-a-counter') end
  if not before and full(bucket, 1) then return outcome('e', 'full') end
  for delta in string.gmatch(deltas, '%S+') do
    local after = redis.pcall('HINCRBY', bucket.values, key, delta)
    if type(after) == 'table' then
      if before then
        redis.call('HSET', bucket.values, key, before)
      else
        redis.call('HDEL', bucket.values, key)
      end
      return outcome('e', 'overflow')
    end
  end
  if not before then
    redis.call('ZADD', bucket.index, 0, key)
    set_ttl(bucket, key, ttl)
  end
  local after = redis.call('HGET', bucket.values, key)
  if bucket.feed then append(bucket.feed, key, after) end
  return outcome('i', after)
end

-- expected: false where the key must be missing.
local function swap(bucket, key, expected, value, ttl)
  local before = current(bucket, key)
  if before ~= expected then
    if before then return outcome('c', before) end
    return outcome('m', '')
  end
  if not before and full(bucket, 1) then return outcome('e', 'full') end
  put(bucket, key, value, ttl)
  return outcome('s', '')
end

-- args from first on: keys and values, `items` of each
local function fill(bucket, args, first, items, ttl)
  local last, new = first + 2 * items - 1, 0
  for at = first, last, 2 do
    if not current(bucket, args[at]) then new = new + 1 end
  end
  if full(bucket, new) then return outcome('e', 'full') end
  for at = first, last, 2 do put(bucket, args[at], args[at + 1], ttl) end
  return outcome('s', '')
end

local function clear_expired(bucket)
  local now = clock_of(bucket)
  for _, key in ipairs(redis.call('ZRANGEBYSCORE', bucket.expiry, '-inf', now, 'LIMIT', 0, CLEARED_AT_ONCE)) do
    remove(bucket, key)
  end
end

-- args from first on: kind, number of the bucket, key, value, ttl in ms or ''. Kinds: P put, R remove, I increment (the
-- value is the delta), N swap of a missing key, S swap, with the expected value as a sixth, F fill (the key is the number
-- of items, which follow), M the bound of the effect after it (the key is the most keys). → encoded outcomes
local function apply_effects(keys, offset, args, first, feeds)
  local opened, outcomes, clock, at = {}, {}, {}, first
  while at <= #args do
    local kind, number, key, value, ttl = args[at], args[at + 1], args[at + 2], args[at + 3], args[at + 4]
    local bucket = opened[number]
    if not bucket then
      local position = tonumber(number)
      bucket = open_bucket(keys, offset + BUCKET_KEYS * (position - 1) + 1, clock, feeds[position])
      opened[number] = bucket
    end
    at = at + 5
    if kind == 'P' then
      put(bucket, key, value, ttl)
    elseif kind == 'R' then
      delete_key(bucket, key)
    elseif kind == 'I' then
      outcomes[#outcomes + 1] = increment(bucket, key, value, ttl)
    elseif kind == 'N' then
      outcomes[#outcomes + 1] = swap(bucket, key, false, value, ttl)
    elseif kind == 'M' then
      bucket.most = tonumber(key)
    elseif kind == 'F' then
      outcomes[#outcomes + 1] = fill(bucket, args, at, tonumber(key), ttl)
      at = at + 2 * tonumber(key)
    else
      outcomes[#outcomes + 1] = swap(bucket, key, args[at], value, ttl)
      at = at + 1
    end
  end
  for _, bucket in pairs(opened) do
    flush(bucket)
    if bucket.expiring then clear_expired(bucket) end
    if bucket.feed then close_feed(bucket.feed) end
  end
  return table.concat(outcomes)
end

-- Remembers which buckets belong to an instance. pairs: 'position of the bucket, position of the set' in KEYS, …
local function note_private(keys, positions)
  for bucket, set in string.gmatch(positions, '(%d+) (%d+)') do
    redis.call('SADD', keys[tonumber(set)], keys[tonumber(bucket)])
  end
end

-- keys: marks, then buckets, then sets of private buckets; args: origin, sequence, number of the buckets, private
-- buckets, the instance's key or '', effects… A mark is the sequence, or the sequence, a space and the outcomes. Sequence 0 has none.
local function foreign(keys, args)
  local sequence = tonumber(args[2])
  if sequence > 0 then
    local mark = redis.call('HGET', keys[1], args[1]) or '0'
    local space = string.find(mark, ' ', 1, true) or #mark + 1
    local highest = tonumber(string.sub(mark, 1, space - 1))
    if sequence == highest then return 'DUPLICATE ' .. string.sub(mark, space + 1) end
    if sequence < highest then return 'DUPLICATE ' end
  end
  local buckets = tonumber(args[3])
  local wrong = check_buckets(keys, 2, BUCKET_KEYS * buckets + 1)
  if wrong then return 'WRONG ' .. wrong end
  local feeds, full = open_feeds(keys, 1, buckets, args[5])
  if full then return 'FULL ' .. full end
  note_private(keys, args[4])
  local outcomes = apply_effects(keys, 1, args, 6, feeds)
  if sequence > 0 then redis.call('HSET', keys[1], args[1], args[2] .. ' ' .. outcomes) end
  return 'APPLIED ' .. outcomes
end

-- keys: one bucket; args: keys → values, false where missing or expired
local function read(keys, args)
  if redis.call('EXISTS', keys[3]) == 0 then return redis.call('HMGET', keys[1], unpack(args)) end
  local now, found = now_ms(), {}
  for at, key in ipairs(args) do
    local value = redis.call('HGET', keys[1], key)
    if value then
      local ends = redis.call('ZSCORE', keys[3], key)
      if ends and tonumber(ends) <= now then value = false end
    end
    found[at] = value
  end
  return found
end

-- keys: one bucket; args: start (- or (cursor), limit → live keys in byte order, whether there are more
local function list(keys, args)
  local limit, start, found = tonumber(args[2]), args[1], {}
  local expiring = redis.call('EXISTS', keys[3]) == 1
  local now = expiring and now_ms()
  while true do
    local page = redis.call('ZRANGE', keys[2], start, '+', 'BYLEX', 'LIMIT', 0, limit + 1)
    for _, key in ipairs(page) do
      local ends = expiring and redis.call('ZSCORE', keys[3], key)
      if not ends or tonumber(ends) > now then
        if #found == limit then return { found, 1 } end
        found[#found + 1] = key
      end
    end
    if #page <= limit then return { found, 0 } end
    start = '(' .. page[#page]
  end
end

-- keys: one bucket → the number of live keys
local function count(keys)
  return live(open_bucket(keys, 1, {}))
end

register('foreign', foreign)
register('read', read, ALWAYS)
register('list', list, ALWAYS)
register('count', count, ALWAYS)
