-- meshd in dnsdist: names of the mesh go to meshd, everything else stays as it was.
--
--   dofile("/etc/dnsdist/meshd.lua")
--   meshd{
--     zones   = {"mesh.internal"},        -- asked of meshd: these names and all below them
--     servers = {"127.0.0.1:5300"},       -- meshd's DNS listeners (--dns); this is the default
--     table   = "/run/meshd/answers",     -- --table of the meshd on this machine; may be left out
--     pool    = "meshd",                  -- name of the pool that is made; this is the default
--   }
--
-- Without `table` each query is forwarded, with the client in a PROXY header. With it, answers
-- that meshd gave before come out of shared memory; what is not there is forwarded.
-- dnsdist 1.7 or newer.

-- Runs in every thread, each with a Lua state of its own; reads what meshd/answerer/table.py
-- writes and describes. It returns None, so that the query is forwarded, whenever it has doubts.
-- It is a format (the path goes in), so it holds no other percent sign.
local reader = [==[
local PATH = %q
local ffi, bit = require("ffi"), require("bit")
local band, bxor, rshift, lshift = bit.band, bit.bxor, bit.rshift, bit.lshift

-- Another table may have declared them in this thread.
pcall(ffi.cdef, "struct meshd_time { long s; long ns; };")
pcall(ffi.cdef, "int open(const char *, int);")
pcall(ffi.cdef, "int close(int);")
pcall(ffi.cdef, "void *mmap(void *, size_t, int, int, int, long);")
pcall(ffi.cdef, "int munmap(void *, size_t);")
pcall(ffi.cdef, "long lseek(int, long, int);")
pcall(ffi.cdef, "int clock_gettime(int, struct meshd_time *);")
local C = ffi.C

local MAGIC, STALE_MS, RETRY_MS, PROBES = "meshdtb1", 1500, 1000, 8
local MAX_UDP, PLAIN_UDP = 1232, 512

local crcs = ffi.new("uint32_t[256]")
for n = 0, 255 do
  local c = n
  for _ = 1, 8 do
    c = band(c, 1) == 1 and bxor(rshift(c, 1), 0xEDB88320) or rshift(c, 1)
  end
  crcs[n] = c
end

local function crc32(crc, bytes, from, to)
  for at = from, to - 1 do
    crc = bxor(crcs[band(bxor(crc, bytes[at]), 0xFF)], rshift(crc, 8))
  end
  return crc
end

local clock = ffi.new("struct meshd_time[1]")
local function now_ms()
  C.clock_gettime(1, clock)
  return tonumber(clock[0].s) * 1000 + tonumber(clock[0].ns) / 1e6
end

local base, words, size, slots, slots_at
local next_try = 0

local function unmap()
  if base ~= nil then C.munmap(ffi.cast("void *", base), size) end
  base = nil
end

local function map(now)
  next_try = now + RETRY_MS
  unmap()
  local fd = C.open(PATH, 0)
  if fd < 0 then return end
  size = tonumber(C.lseek(fd, 0, 2))
  local found = size > 64 and C.mmap(nil, size, 1, 1, fd, 0) or nil
  C.close(fd)
  if found == nil or ffi.cast("intptr_t", found) == -1 then return end
  base = ffi.cast("const uint8_t *", found)
  words = ffi.cast("const uint32_t *", found)
  if ffi.string(base, 8) ~= MAGIC then unmap() return end
  slots = words[2]
  slots_at = 16 + words[3]
end

-- Is there a table, and does somebody keep it current?
local function is_current()
  local now = now_ms()
  if base ~= nil and now - tonumber(ffi.cast("const uint64_t *", base + 16)[0]) < STALE_MS then
    return true
  end
  if now >= next_try then map(now) end
  return base ~= nil and now - tonumber(ffi.cast("const uint64_t *", base + 16)[0]) < STALE_MS
end

local key = ffi.new("uint8_t[300]")
local entry = ffi.new("uint8_t[2048]")
local halves = ffi.cast("const uint16_t *", entry)
local numbers = ffi.cast("const uint32_t *", entry)
local out = ffi.new("uint8_t[4096]")

-- A copy of the entry under the key, if there is one that is whole and still counts.
local function find(length, crc)
  local hash = bxor(crc, -1)
  for probe = 0, PROBES - 1 do
    local offset = tonumber(words[slots_at + band(hash + probe, slots - 1)]) * 8
    if offset == 0 then return false end
    if offset + 28 > size then return false end
    local there = base + offset
    local bytes = ffi.cast("const uint16_t *", there)[2]
    if ffi.cast("const uint16_t *", there)[3] == length and bytes >= 28 + length
        and bytes <= 2048 and offset + bytes <= size then
      ffi.copy(entry, there, bytes)
      local is_ours = halves[2] == bytes and halves[3] == length
      for at = 0, length - 1 do
        if entry[28 + at] ~= key[at] then is_ours = false break end
      end
      if is_ours then
        return numbers[2] < words[3] and words[16 + numbers[2]] == numbers[3]
          and bit.tobit(numbers[0]) == bxor(crc32(-1, entry, 4, bytes), -1)
      end
    end
  end
  return false
end

-- The end of the question, if the packet is a plain query, its name in lower case in `key`.
local function question(packet, length)
  -- One question, nothing else but an OPT; opcode 0, not a response.
  if length < 17 or band(packet[2], 0xF8) ~= 0 or packet[4] ~= 0 or packet[5] ~= 1
      or packet[6] + packet[7] + packet[8] + packet[9] + packet[10] ~= 0 or packet[11] > 1 then
    return nil
  end
  local at = 12
  while true do
    local label = packet[at]
    if label > 63 or at + label + 5 > length or at + label > 266 then return nil end
    key[at - 12] = label
    at = at + 1
    if label == 0 then break end
    for inner = at, at + label - 1 do
      local char = packet[inner]
      key[inner - 12] = (char >= 65 and char <= 90) and char + 32 or char
    end
    at = at + label
  end
  for more = 0, 3 do key[at - 12 + more] = packet[at + more] end
  return at + 4
end

-- The UDP size that the OPT record at `at` allows, and its DO bit; nil if meshd should look at it.
local function edns(packet, at, length)
  if at + 11 > length or packet[at] ~= 0 or packet[at + 1] ~= 0 or packet[at + 2] ~= 41
      or packet[at + 5] ~= 0 or packet[at + 6] ~= 0 or band(packet[at + 7], 0x7F) ~= 0
      or packet[at + 8] ~= 0 or at + 11 + packet[at + 9] * 256 + packet[at + 10] ~= length then
    return nil
  end
  local option = at + 11
  while option + 4 <= length do
    -- A client subnet: who asks is not for whom.
    if packet[option] == 0 and packet[option + 1] == 8 then return nil end
    option = option + 4 + packet[option + 2] * 256 + packet[option + 3]
  end
  if option ~= length then return nil end
  local wanted = packet[at + 3] * 256 + packet[at + 4]
  return math.max(PLAIN_UDP, math.min(wanted, MAX_UDP)), packet[at + 7]
end

local address, address_size = ffi.new("const void *[1]"), ffi.new("size_t[1]")

-- Looks for the client's prefix, longest first; any that is there holds for it.
local function look_up(dq, length)
  C.dnsdist_ffi_dnsquestion_get_remoteaddr(dq, address, address_size)
  local bytes = ffi.cast("const uint8_t *", address[0])
  local width = tonumber(address_size[0])
  if width == 16 and band(bytes[10], bytes[11]) == 0xFF then
    local mapped = true
    for at = 0, 9 do mapped = mapped and bytes[at] == 0 end
    if mapped then bytes, width = bytes + 12, 4 end
  end
  local used = ffi.cast("const uint16_t *", base)[width == 4 and 12 or 13]
  local step, most = width == 4 and 1 or 2, width == 4 and 4 or 8
  key[length] = width == 4 and 4 or 6
  local crc = crc32(-1, key, 0, length + 1)
  for at = 0, width - 1 do key[length + 2 + at] = bytes[at] end
  for n = most, 0, -1 do
    if band(used, lshift(1, n)) ~= 0 then
      key[length + 1] = n
      local whole = length + 2 + n * step
      if find(whole, crc32(crc, key, length + 1, whole)) then return whole end
    end
  end
  return nil
end

return function(dq)
  if not is_current() then return DNSAction.None end
  local packet = ffi.cast("uint8_t *", C.dnsdist_ffi_dnsquestion_get_header(dq))
  local length = tonumber(C.dnsdist_ffi_dnsquestion_get_len(dq))
  local stop = question(packet, length)
  if stop == nil then return DNSAction.None end
  local limit, dnssec = PLAIN_UDP, nil
  if packet[11] == 1 then
    limit, dnssec = edns(packet, stop, length)
    if limit == nil then return DNSAction.None end
  elseif stop ~= length then
    return DNSAction.None
  end
  if C.dnsdist_ffi_dnsquestion_get_tcp(dq) then limit = 4096 end

  local key_length = look_up(dq, stop - 12)
  if key_length == nil then return DNSAction.None end
  local tail = halves[2] - 28 - key_length
  local total = stop + tail + (dnssec and 11 or 0)
  if total > limit then return DNSAction.None end

  ffi.copy(out, packet, stop)
  -- RD as asked; CD too, as RFC 4035 3.1.6 wants it.
  out[2] = entry[16] + band(packet[2], 1)
  out[3] = entry[17] + band(packet[3], 0x10)
  ffi.copy(out + 4, entry + 18, 8)
  ffi.copy(out + stop, entry + 28 + key_length, tail)
  if dnssec then
    out[11] = out[11] + 1
    local opt = out + stop + tail
    ffi.fill(opt, 11)
    opt[2], opt[3], opt[4], opt[7] = 41, rshift(MAX_UDP, 8), band(MAX_UDP, 0xFF), dnssec
  end
  C.dnsdist_ffi_dnsquestion_set_size(dq, total)
  -- The buffer may have moved.
  ffi.copy(C.dnsdist_ffi_dnsquestion_get_header(dq), out, total)
  return DNSAction.HeaderModify
end
]==]

local known = {zones = "table", servers = "table", table = "string", pool = "string"}

function meshd(options)
  for name, value in pairs(options) do
    if known[name] == nil then error("meshd: " .. tostring(name) .. " is no setting", 2) end
    if type(value) ~= known[name] then
      error("meshd: " .. name .. " must be a " .. known[name], 2)
    end
  end
  if options.zones == nil or #options.zones == 0 then
    error('meshd: zones is missing, as in zones = {"mesh.internal"}', 2)
  end
  local pool = options.pool or "meshd"
  for number, server in ipairs(options.servers or {"127.0.0.1:5300"}) do
    newServer{
      address = server, name = pool .. "-" .. number, pool = pool,
      -- meshd must know the client; by client subnet it would be cut, and come back changed.
      useProxyProtocol = true,
      checkName = options.zones[1], checkType = "SOA", mustResolve = true,
      checkInterval = 1, maxCheckFailures = 2,
    }
  end
  local names = newSuffixMatchNode()
  for _, zone in ipairs(options.zones) do names:add(newDNSName(zone)) end
  local ours = SuffixMatchNodeRule(names)
  if options.table then
    addAction(ours, LuaFFIPerThreadAction(string.format(reader, options.table)))
  end
  -- Without a server dnsdist would be silent, and clients would wait. setServFailWhenNoServer
  -- does the same, but for all pools.
  addAction(AndRule{ours, NotRule(PoolAvailableRule(pool))}, RCodeAction(DNSRCode.SERVFAIL))
  -- The pool has no packet cache and must not get one: its key knows no client.
  addAction(ours, PoolAction(pool))
end
