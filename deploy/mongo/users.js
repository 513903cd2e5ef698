// Makes the two users of an archive in a database that others serve:
//
//     mongosh "mongodb://admin@db.example.org/admin" --eval 'var archive = "archiver"' deploy/mongo/users.js
//
// "archiver" is for the daemon and the commands: it reads, writes and follows the collections of the archive's database and
// makes their indexes, and can neither drop them nor manage users; "archiver-portal" is for the portal: it reads the
// database, keeps people, sessions, requests, notes and decisions, adds to the audit log, and changes nothing else. mongosh asks for the passwords; give them to the configurations as {"env": ...} or {"file": ...}.

(() => {
  const fs = require("fs");
  const path = require("path");
  const name = typeof archive === "undefined" ? "archiver" : archive;
  const database = db.getSiblingDB(name);
  const text = fs.readFileSync(path.join(__dirname, "roles.json"), "utf8");

  for (const role of JSON.parse(text.replaceAll("DATABASE", name))) {
    const there = database.getRole(role.createRole) !== null;
    const { createRole, ...rights } = role;
    database.runCommand(there ? { updateRole: createRole, ...rights } : role);
  }
  const people = db.getSiblingDB("admin");
  const users = { archiver: [{ role: "archiverDaemon", db: name }], "archiver-portal": [{ role: "archiverPortal", db: name }] };
  for (const [user, roles] of Object.entries(users)) {
    if (people.getUser(user) === null) people.createUser({ user, pwd: passwordPrompt(), roles });
    else people.updateUser(user, { roles });
  }
})();
