-- Changes the entries of a store. KEYS: the hash of entries, the sorted set of their keys, the size of all.
-- ARGV: the quota; then, for each change, its kind, the key, the value, and for a swap the value that it replaces: "="
-- and that value, or nothing if there must be none.
--
-- Returns the outcome as a word, and the sum of an "add". Changes before a refused one are kept.
local entries, keys, used_key = KEYS[1], KEYS[2], KEYS[3]
local quota = tonumber(ARGV[1])
local used = tonumber(redis.call('GET', used_key) or '0')
local entry_size = 64

-- The size of the entry that a key has, or 0.
local function size_of(key)
  if redis.call('HEXISTS', entries, key) == 0 then return 0 end
  return #key + redis.call('HSTRLEN', entries, key) + entry_size
end

-- Whether an entry may take the place of one with the size `before`. If so, it counts from then on.
local function fits(key, length, before)
  local after = used - before + #key + length + entry_size
  if after > used and after > quota then return false end
  used = after
  return true
end

local function put(key, value)
  local before = size_of(key)
  if not fits(key, #value, before) then return false end
  redis.call('HSET', entries, key, value)
  if before == 0 then redis.call('ZADD', keys, 0, key) end
  return true
end

local function change(kind, key, value, replaced)
  if kind == 'delete' then
    used = used - size_of(key)
    redis.call('HDEL', entries, key)
    redis.call('ZREM', keys, key)
    return 'done', ''
  end
  if kind == 'swap' then
    local now = redis.call('HGET', entries, key)
    if (now and '=' .. now or '') ~= replaced then return 'differs', '' end
  end
  if kind ~= 'add' then
    if not put(key, value) then return 'quota', '' end
    return 'done', ''
  end
  local now = redis.call('HGET', entries, key)
  local sum = redis.pcall('HINCRBY', entries, key, value)
  if type(sum) == 'table' then
    return string.find(sum.err, 'overflow') and 'overflow' or 'number', ''
  end
  -- The numbers of Lua are doubles, which cannot hold every integer of 64 bits.
  sum = redis.call('HGET', entries, key)
  local before = now and #key + #now + entry_size or 0
  if not fits(key, #sum, before) then
    if now then redis.call('HSET', entries, key, now) else redis.call('HDEL', entries, key) end
    return 'quota', ''
  end
  if not now then redis.call('ZADD', keys, 0, key) end
  return 'sum', sum
end

local word, sum = 'done', ''
for nth = 2, #ARGV, 4 do
  word, sum = change(ARGV[nth], ARGV[nth + 1], ARGV[nth + 2], ARGV[nth + 3])
  if word ~= 'done' and word ~= 'sum' then break end
end
if used > 0 then
  redis.call('SET', used_key, string.format('%.0f', used))
else
  redis.call('DEL', used_key)
end
return { word, sum }
