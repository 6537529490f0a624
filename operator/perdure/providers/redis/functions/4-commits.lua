-- The owner's side: claims, commits, snapshots.
-- The instance hash: e epoch, n nonce, h host, l life, s sequence, b the sequence when this token was given, o whether
-- the invocation goes on, c component, x why it must not run, ss and sb the snapshot's sequence and bytes.

local COMMITS_BETWEEN_CLEARING = 8

-- A journal entry as an older version wrote it, or, with outcomes: PR, their length, they themselves, the entry.
local function record(entry, outcomes)
  if outcomes == '' and string.sub(entry, 1, 2) ~= 'PR' then return entry end
  return 'PR' .. struct.pack('>I4', #outcomes) .. outcomes .. entry
end

local function outcomes_of(stored)
  if string.sub(stored, 1, 2) ~= 'PR' then return '' end
  return string.sub(stored, 7, 6 + struct.unpack('>I4', stored, 3))
end

-- Everything stored of an instance but results, inbox and buckets.
local function contents(keys)
  local held = redis.call('HMGET', keys[INSTANCE], 'l', 's', 'o', 'x', 'ss')
  return { held[1] or '', held[2] or '0', held[3] or '0', held[4], held[5],
    redis.call('LRANGE', keys[JOURNAL], 0, -1), redis.call('SMEMBERS', keys[UNAPPLIED]),
    redis.call('LRANGE', keys[SNAPSHOT], 0, -1), redis.call('HGETALL', keys[BLOBS]) }
end

-- keys: an instance, then the store's identity; args: nonce, host, name, identity if there is none
-- → epoch, previous host, identity, contents
local function claim(keys, args)
  local held = redis.call('HMGET', keys[INSTANCE], 'e', 'n', 'h', 's', 'l')
  local epoch = tonumber(held[1] or '0')
  if held[1] == false or held[2] ~= args[1] then
    epoch = epoch + 1
    redis.call('HSET', keys[INSTANCE], 'e', whole(epoch), 'n', args[1], 'h', args[2], 'l', held[5] or args[1],
      'b', held[4] or '0')
    -- Versions before this one kept no such index.
    if redis.call('EXISTS', keys[UNAPPLIED]) == 1 then refresh_due(keys, args[3]) end
  end
  local identity = redis.call('GET', keys[INSTANCE_KEYS + 1])
  if not identity then
    identity = args[4]
    redis.call('SET', keys[INSTANCE_KEYS + 1], identity)
  end
  return { whole(epoch), held[3], identity, contents(keys) }
end

-- → contents, or nil where nothing was committed
local function peek(keys)
  if not redis.call('HGET', keys[INSTANCE], 's') and redis.call('EXISTS', keys[JOURNAL], keys[SNAPSHOT]) == 0 then
    return nil
  end
  return contents(keys)
end

-- args: epoch, nonce
local function verify(keys, args)
  if owned(keys, args[1], args[2]) then return 'OWNED' end
  return 'FENCED'
end

-- Drops the records up to a sequence, and the blobs that only they named. stored: the sequence of the last record.
local function trim(keys, stored, sequence)
  local first = stored - redis.call('LLEN', keys[JOURNAL]) + 1
  if sequence >= first then redis.call('LTRIM', keys[JOURNAL], sequence - first + 1, -1) end
  while true do
    local gone = redis.call('ZRANGEBYSCORE', keys[BLOB_ENDS], '-inf', sequence, 'LIMIT', 0, BATCH)
    if #gone == 0 then return end
    redis.call('HDEL', keys[BLOBS], unpack(gone))
    redis.call('ZREM', keys[BLOB_ENDS], unpack(gone))
  end
end

-- What a commit is answered whose sequence is not the next one. base: what is above it was applied under this token.
local function not_next(keys, sequence, stored, base)
  if sequence > stored then return 'LOST ' .. whole(stored) end
  if sequence <= base then return 'PASSED ' .. whole(stored) end
  -- Nobody who has kept a snapshot of it asks for the outcomes.
  return 'DUPLICATE ' .. outcomes_of(redis.call('LINDEX', keys[JOURNAL], sequence - stored - 1) or '')
end

-- Expired ones are no results to anybody; they are cleared by every few commits, as much at once as has gathered.
local function keep_result(keys, key, result, now, retention, most, sequence)
  redis.call('HSET', keys[RESULTS], key, result)
  redis.call('ZADD', keys[EXPIRY], now + retention, key)
  local old = {}
  local over = redis.call('ZCARD', keys[EXPIRY]) - most
  if over > 0 then
    old = redis.call('ZRANGE', keys[EXPIRY], 0, math.min(over, CLEARED_AT_ONCE) - 1)
  elseif sequence % COMMITS_BETWEEN_CLEARING == 0 then
    old = redis.call('ZRANGEBYSCORE', keys[EXPIRY], '-inf', now, 'LIMIT', 0, CLEARED_AT_ONCE)
  end
  if #old > 0 then
    redis.call('HDEL', keys[RESULTS], unpack(old))
    redis.call('ZREM', keys[EXPIRY], unpack(old))
  end
end

local function change_component(keys, before, after)
  if before and redis.call('HINCRBY', keys[USED], before, -1) <= 0 then redis.call('HDEL', keys[USED], before) end
  if after then redis.call('HINCRBY', keys[USED], after, 1) end
end

-- keys: an instance, then buckets, then sets of private buckets
-- args: epoch, nonce, sequence, name, flags, entry, component or '', key to reserve, key of the pending call, key of
-- the result, fingerprint and body, retention in ms, most results, number of buckets, private buckets, number of
-- blobs, blobs (digest, payload)…, effects…
-- flags: o open, f foreign, n fresh, k reserves, p pending, r result
local function commit(keys, args)
  local held = redis.call('HMGET', keys[INSTANCE], 'e', 'n', 's', 'b', 'o', 'c')
  if held[1] ~= args[1] or held[2] ~= args[2] then return 'FENCED' end
  local sequence, stored, flags = tonumber(args[3]), tonumber(held[3] or '0'), args[5]
  if sequence ~= stored + 1 then return not_next(keys, sequence, stored, tonumber(held[4] or '0')) end
  local reserves, pending, result = has(flags, 'k'), has(flags, 'p'), has(flags, 'r')
  local now = (reserves or result) and now_ms()
  if (result and finished(keys, args[10], now)) or (reserves and finished(keys, args[8], now)) then
    return 'KEY_USED'
  end
  if result and not pending then
    local state = redis.call('HGET', keys[INBOX], 's' .. args[10])
    -- Another call of this key must not be taken out of the inbox.
    if state and fingerprint_of(state) ~= string.sub(args[11], 1, 32) then return 'KEY_USED' end
  end
  if pending then
    local state = redis.call('HGET', keys[INBOX], 's' .. args[9])
    -- Under the same key there may be another call by now.
    if not state or (result and fingerprint_of(state) ~= string.sub(args[11], 1, 32)) then return 'CANCELLED' end
  end
  local buckets, blobs = tonumber(args[14]), tonumber(args[16])
  local wrong = check_buckets(keys, INSTANCE_KEYS + 1, INSTANCE_KEYS + BUCKET_KEYS * buckets)
  if wrong then return 'WRONG ' .. wrong end
  local feeds, full = open_feeds(keys, INSTANCE_KEYS, buckets, keys[INSTANCE])
  if full then return 'FULL ' .. full end

  -- From here on everything is written.
  if has(flags, 'n') then
    redis.call('UNLINK', keys[SNAPSHOT], keys[UNAPPLIED], keys[JOURNAL], keys[BLOBS], keys[BLOB_ENDS])
    redis.call('HDEL', keys[INSTANCE], 'ss', 'sb')
  end
  if args[15] ~= '' then note_private(keys, args[15]) end
  local outcomes = apply_effects(keys, INSTANCE_KEYS, args, 17 + 2 * blobs, feeds)
  redis.call('RPUSH', keys[JOURNAL], record(args[6], outcomes))
  for at = 17, 16 + 2 * blobs, 2 do
    redis.call('HSETNX', keys[BLOBS], args[at], args[at + 1])
    redis.call('ZADD', keys[BLOB_ENDS], sequence, args[at])
  end
  local open, foreign_, due_changed = has(flags, 'o'), has(flags, 'f'), has(flags, 'n')
  if open ~= (held[5] == '1') then
    redis.call('HSET', keys[INSTANCE], 's', args[3], 'o', open and '1' or '0')
    due_changed = true
  else
    redis.call('HSET', keys[INSTANCE], 's', args[3])
  end
  if args[7] ~= '' and args[7] ~= held[6] then
    redis.call('HSET', keys[INSTANCE], 'c', args[7])
    change_component(keys, held[6], args[7])
  end
  if stored == 0 then redis.call('ZADD', keys[NAMES], 0, args[4]) end
  if foreign_ then
    redis.call('SADD', keys[UNAPPLIED], args[3])
    due_changed = true
  end
  if open and pending then begin(keys, args[9]) end
  if open and reserves then begin(keys, args[8]) end
  if result then
    if remove_pending(keys, args[10]) then due_changed = true end
    keep_result(keys, args[10], args[11], now, tonumber(args[12]), tonumber(args[13]), sequence)
  end
  if due_changed then refresh_due(keys, args[4]) end
  return 'APPLIED ' .. outcomes
end

-- args: epoch, nonce, sequence, name
local function applied(keys, args)
  if not owned(keys, args[1], args[2]) then return 'FENCED' end
  if redis.call('SREM', keys[UNAPPLIED], args[3]) == 1 then refresh_due(keys, args[4]) end
  return 'OK'
end

-- args: epoch, nonce, sequence, the sequence it follows or '', data → KEPT or REFUSED
local function snapshot(keys, args)
  local held = redis.call('HMGET', keys[INSTANCE], 'e', 'n', 's', 'ss', 'sb')
  if held[1] ~= args[1] or held[2] ~= args[2] then return 'FENCED' end
  local sequence, stored, present = tonumber(args[3]), tonumber(held[3] or '0'), tonumber(held[4] or '-1')
  local delta, data = args[4] ~= '', args[5]
  if present == sequence and redis.call('LINDEX', keys[SNAPSHOT], -1) == data
    and delta == (redis.call('LLEN', keys[SNAPSHOT]) > 1) then
    return 'KEPT'
  end
  if sequence > stored then return 'REFUSED' end
  for _, waiting in ipairs(redis.call('SMEMBERS', keys[UNAPPLIED])) do
    if tonumber(waiting) <= sequence then return 'REFUSED' end
  end
  local bytes = #data
  if delta then
    if not held[4] or present ~= tonumber(args[4]) or sequence <= present then return 'REFUSED' end
    bytes = bytes + tonumber(held[5])
  else
    if sequence < present then return 'REFUSED' end
    redis.call('DEL', keys[SNAPSHOT])
  end
  redis.call('RPUSH', keys[SNAPSHOT], data)
  redis.call('HSET', keys[INSTANCE], 'ss', args[3], 'sb', whole(bytes))
  trim(keys, stored, sequence)
  return 'KEPT'
end

-- args: epoch, nonce, name, reason, if there is one
local function halt(keys, args)
  if not owned(keys, args[1], args[2]) then return 'FENCED' end
  if args[4] then
    redis.call('HSET', keys[INSTANCE], 'x', args[4])
  else
    redis.call('HDEL', keys[INSTANCE], 'x')
  end
  refresh_due(keys, args[3])
  return 'OK'
end

register('claim', claim)
register('peek', peek, ALWAYS)
register('verify', verify, ALWAYS)
register('commit', commit)
register('applied', applied, ALWAYS)
register('snapshot', snapshot)
register('halt', halt)
