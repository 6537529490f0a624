-- Inboxes. INBOX, a hash: 'c' and the key: the payload; 's' and the key: the state, which is 16 digits of the order of
-- acceptance, 32 bytes of fingerprint, attempts (4 bytes), begun (1 byte), the last failure. ORDER, a zset scored by due
-- time in ms: the 16 digits and the key, so that calls of one instant stand in the order of their acceptance.

local ORDER_DIGITS = 16
local ATTEMPTS = ORDER_DIGITS + 32 + 1
local FAILURE = ATTEMPTS + 5

local function fingerprint_of(state)
  return string.sub(state, ORDER_DIGITS + 1, ORDER_DIGITS + 32)
end

local function attempts_of(state)
  return struct.unpack('>I4', state, ATTEMPTS)
end

local function has_begun(state)
  return string.byte(state, FAILURE - 1) == 1
end

local function state_with(state, attempts, begun, failure)
  return string.sub(state, 1, ATTEMPTS - 1) .. struct.pack('>I4B', attempts, begun and 1 or 0) .. failure
end

local function order_of(state, key)
  return string.sub(state, 1, ORDER_DIGITS) .. key
end

-- Marks a call as one of which a part is durable.
local function begin(keys, key)
  local state = redis.call('HGET', keys[INBOX], 's' .. key)
  if state and not has_begun(state) then
    state = state_with(state, attempts_of(state), true, string.sub(state, FAILURE))
    redis.call('HSET', keys[INBOX], 's' .. key, state)
  end
end

-- Whether there was one.
local function remove_pending(keys, key)
  local state = redis.call('HGET', keys[INBOX], 's' .. key)
  if not state then return false end
  redis.call('HDEL', keys[INBOX], 's' .. key, 'c' .. key)
  redis.call('ZREM', keys[ORDER], order_of(state, key))
  return true
end

-- → state, payload, due time
local function whole_call(keys, key)
  local held = redis.call('HMGET', keys[INBOX], 's' .. key, 'c' .. key)
  if not held[1] then return nil end
  return { held[1], held[2], redis.call('ZSCORE', keys[ORDER], order_of(held[1], key)) }
end

-- keys: an instance, then the Worker's count of accepted calls; args: name, key, fingerprint, payload, due time or '',
-- most pending
local function enqueue(keys, args)
  local key, now = args[2], now_ms()
  if finished(keys, key, now) then
    local stored = redis.call('HGET', keys[RESULTS], key)
    return string.sub(stored, 1, 32) == args[3] and 'FINISHED' or 'CONFLICT'
  end
  local state = redis.call('HGET', keys[INBOX], 's' .. key)
  if state then return fingerprint_of(state) == args[3] and 'PENDING' or 'CONFLICT' end
  if redis.call('ZCARD', keys[ORDER]) >= tonumber(args[6]) then return 'FULL' end
  local order = string.format('%016.0f', redis.call('INCR', keys[INSTANCE_KEYS + 1]))
  state = state_with(order .. args[3], 0, false, '')
  redis.call('HSET', keys[INBOX], 's' .. key, state, 'c' .. key, args[4])
  redis.call('ZADD', keys[ORDER], args[5] ~= '' and args[5] or now, order_of(state, key))
  refresh_due(keys, args[1])
  return 'ACCEPTED'
end

-- args: name, key
local function cancel(keys, args)
  if finished(keys, args[2], now_ms()) then return 'FINISHED' end
  local state = redis.call('HGET', keys[INBOX], 's' .. args[2])
  if not state then return 'UNKNOWN' end
  if has_begun(state) then return 'BEGUN' end
  remove_pending(keys, args[2])
  refresh_due(keys, args[1])
  return 'CANCELLED'
end

-- args: key → state, payload, due time; or nil
local function pending(keys, args)
  return whole_call(keys, args[1])
end

-- args: limit → key, state, payload, due time of each
local function inbox(keys, args)
  local found = {}
  if tonumber(args[1]) < 1 then return found end
  for _, member in ipairs(redis.call('ZRANGE', keys[ORDER], 0, args[1] - 1)) do
    local key = string.sub(member, ORDER_DIGITS + 1)
    local call = whole_call(keys, key)
    found[#found + 1] = { key, call[1], call[2], call[3] }
  end
  return found
end

-- args: epoch, nonce → FENCED; NONE and when to look again or nil; or CALL, key, state, payload, due time
local function take(keys, args)
  if not owned(keys, args[1], args[2]) then return { 'FENCED' } end
  local first = redis.call('ZRANGE', keys[ORDER], 0, 0, 'WITHSCORES')
  if #first == 0 then return { 'NONE', false } end
  if tonumber(first[2]) > now_ms() then return { 'NONE', first[2] } end
  local key = string.sub(first[1], ORDER_DIGITS + 1)
  local state = redis.call('HGET', keys[INBOX], 's' .. key)
  state = state_with(state, attempts_of(state) + 1, has_begun(state), string.sub(state, FAILURE))
  redis.call('HSET', keys[INBOX], 's' .. key, state)
  return { 'CALL', key, state, redis.call('HGET', keys[INBOX], 'c' .. key), first[2] }
end

-- args: epoch, nonce, name, key, delay in ms, failure
local function postpone(keys, args)
  if not owned(keys, args[1], args[2]) then return 'FENCED' end
  local key = args[4]
  local state = redis.call('HGET', keys[INBOX], 's' .. key)
  if state then
    redis.call('ZADD', keys[ORDER], now_ms() + tonumber(args[5]), order_of(state, key))
    state = state_with(state, attempts_of(state), has_begun(state), args[6])
    redis.call('HSET', keys[INBOX], 's' .. key, state)
    refresh_due(keys, args[3])
  end
  return 'OK'
end

-- keys: the index; args: limit → the clock, when the next one is due or nil, names of those that are due now
local function due(keys, args)
  local now = now_ms()
  local names = redis.call('ZRANGEBYSCORE', keys[1], '-inf', now, 'LIMIT', 0, args[1])
  if #names > 0 then return { whole(now), false, names } end
  return { whole(now), redis.call('ZRANGE', keys[1], 0, 0, 'WITHSCORES')[2] or false, names }
end

register('enqueue', enqueue)
register('cancel', cancel, ALWAYS)
register('pending', pending, ALWAYS)
register('inbox', inbox, ALWAYS)
register('take', take)
register('postpone', postpone)
register('due', due, ALWAYS)
