-- Feeds of watched buckets, the last two keys of a bucket's five. WATCHES, a hash that is there while somebody watches:
-- l life, n last number, b bytes of the changes, C and B the most changes and bytes; 'w' and a Worker: the number it has
-- reached, a space, when it was renewed, a space, the instance's key. CHANGES, a list: those up to n, each a letter (s
-- set, d deleted), and with their lengths the key of the instance that made it, the bucket's key, and the value.

local WATCHES, CHANGES = 3, 4

local function sized(text)
  return struct.pack('>I4', #text) .. text
end

local function change_parts(packed)
  local writer_size = struct.unpack('>I4', packed, 2)
  local writer = string.sub(packed, 6, 5 + writer_size)
  local at = 6 + writer_size
  return writer, #packed - at - 3
end

-- The feed of the bucket at keys[at], for what `writer` changes; nil if nobody heeds it. Changes nothing.
local function open_feed(keys, at, writer)
  local held = redis.call('HGETALL', keys[at + WATCHES])
  if #held == 0 then return nil end
  local feed = { watches = keys[at + WATCHES], changes = keys[at + CHANGES], writer = writer, added = {}, bytes = 0 }
  local heeded, limits = false, {}
  for field = 1, #held, 2 do
    local name, value = held[field], held[field + 1]
    if string.sub(name, 1, 1) == 'w' then
      if string.match(value, '^%d+ %d+ (.*)$') ~= writer then heeded = true end
    else
      limits[name] = value
    end
  end
  if not heeded then return nil end
  feed.full = redis.call('LLEN', feed.changes) >= tonumber(limits.C) or tonumber(limits.b) >= tonumber(limits.B)
  return feed
end

-- By the number of the bucket, those that are open; or the number of one that is full.
local function open_feeds(keys, offset, buckets, writer)
  local feeds = {}
  for number = 1, buckets do
    local feed = open_feed(keys, offset + BUCKET_KEYS * (number - 1) + 1, writer)
    if feed and feed.full then return feeds, number end
    feeds[number] = feed
  end
  return feeds, nil
end

-- value: false where the key is deleted.
local function append(feed, key, value)
  feed.added[#feed.added + 1] = (value and 's' or 'd') .. sized(feed.writer) .. sized(key) .. (value or '')
  feed.bytes = feed.bytes + #key + #(value or '')
end

local function close_feed(feed)
  local added = #feed.added
  if added == 0 then return end
  for start = 1, added, BATCH do
    redis.call('RPUSH', feed.changes, unpack(feed.added, start, math.min(start + BATCH - 1, added)))
  end
  redis.call('HINCRBY', feed.watches, 'n', added)
  redis.call('HINCRBY', feed.watches, 'b', feed.bytes)
end

-- Drops what all have been told, and the feed when nobody watches any more.
local function trim_feed(keys)
  local held, least = redis.call('HGETALL', keys[1]), nil
  for field = 1, #held, 2 do
    if string.sub(held[field], 1, 1) == 'w' then
      local reached = tonumber(string.match(held[field + 1], '^%d+'))
      least = math.min(least or reached, reached)
    end
  end
  if not least then
    redis.call('UNLINK', keys[1], keys[2])
    return
  end
  local last = tonumber(redis.call('HGET', keys[1], 'n'))
  local gone = least - (last - redis.call('LLEN', keys[2]))
  local bytes = 0
  for start = 0, gone - 1, BATCH do
    for _, packed in ipairs(redis.call('LRANGE', keys[2], start, math.min(start + BATCH, gone) - 1)) do
      local _, size = change_parts(packed)
      bytes = bytes + size
    end
  end
  if gone > 0 then
    redis.call('LTRIM', keys[2], gone, -1)
    redis.call('HINCRBY', keys[1], 'b', -bytes)
  end
end

local function watch_of(keys, worker)
  local held = redis.call('HGET', keys[1], 'w' .. worker)
  if not held then return nil end
  local reached, renewed, writer = string.match(held, '^(%d+) (%d+) (.*)$')
  return { reached = tonumber(reached), renewed = tonumber(renewed), writer = writer }
end

local function keep_watch(keys, worker, found)
  redis.call('HSET', keys[1], 'w' .. worker, whole(found.reached) .. ' ' .. whole(found.renewed) .. ' ' .. found.writer)
end

-- keys: watches, changes; args: Worker, key of the instance, life of a new feed, most changes, most bytes
local function watch(keys, args)
  redis.call('HSETNX', keys[1], 'l', args[3])
  redis.call('HSETNX', keys[1], 'n', '0')
  redis.call('HSETNX', keys[1], 'b', '0')
  redis.call('HSET', keys[1], 'C', args[4], 'B', args[5])
  local found = watch_of(keys, args[1]) or { reached = tonumber(redis.call('HGET', keys[1], 'n')) }
  found.renewed, found.writer = now_ms(), args[2]
  keep_watch(keys, args[1], found)
  return 'OK'
end

-- args: Worker → key of the instance, ms since it was renewed; or nil
local function watching(keys, args)
  local found = watch_of(keys, args[1])
  return found and { found.writer, whole(now_ms() - found.renewed) }
end

-- args: Worker, ms since it was renewed at least → whether there is no such watch now
local function unwatch(keys, args)
  local found = watch_of(keys, args[1])
  if not found then return 1 end
  if now_ms() - found.renewed < tonumber(args[2]) then return 0 end
  redis.call('HDEL', keys[1], 'w' .. args[1])
  trim_feed(keys)
  return 1
end

-- args: Worker, after, limit, bytes → life, reached, number of the first, the instance's key, changes; or nil
local function changes(keys, args)
  local found = watch_of(keys, args[1])
  if not found then return nil end
  local feed = redis.call('HMGET', keys[1], 'l', 'n')
  local first = tonumber(feed[2]) - redis.call('LLEN', keys[2])
  local start, limit = math.max(tonumber(args[2]), found.reached) - first, tonumber(args[3])
  local page, bytes = {}, 0
  while #page < limit and bytes < tonumber(args[4]) do
    local packed = redis.call('LINDEX', keys[2], start + #page)
    if not packed then break end
    page[#page + 1], bytes = packed, bytes + #packed
  end
  return { feed[1], whole(found.reached), whole(first + start + 1), found.writer, page }
end

-- args: Worker, life, number
local function told(keys, args)
  local found = watch_of(keys, args[1])
  local feed = redis.call('HMGET', keys[1], 'l', 'n')
  if not found or feed[1] ~= args[2] then return 'OK' end
  local number = math.min(tonumber(args[3]), tonumber(feed[2]))
  if number > found.reached then
    found.reached = number
    keep_watch(keys, args[1], found)
    trim_feed(keys)
  end
  return 'OK'
end

-- keys: the Worker's index of watched buckets; args: a bucket
local function note_watch(keys, args)
  return redis.call('SADD', keys[1], args[1])
end

local function drop_watch(keys, args)
  return redis.call('SREM', keys[1], args[1])
end

local function watches(keys)
  return redis.call('SMEMBERS', keys[1])
end

register('watch', watch)
register('watching', watching, ALWAYS)
register('unwatch', unwatch, ALWAYS)
register('changes', changes, ALWAYS)
register('told', told, ALWAYS)
register('note_watch', note_watch)
register('drop_watch', drop_watch, ALWAYS)
register('watches', watches, ALWAYS)
