-- A JSON call of one KiB.
wrk.method = "POST"
wrk.path = "/upload"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"pad":"' .. string.rep("x", 1014) .. '"}'
