// Lets mongosh understand the documented database commands, which use Python's names for values and methods.
//
//     mongosh --shell "<address of the database>" deploy/mongo/mongoshrc.js
//
// or, for every session, in ~/.mongoshrc.js:
//
//     load("/path/to/deploy/mongo/mongoshrc.js")

globalThis.True = true;
globalThis.False = false;
globalThis.None = null;

globalThis.utc_now = () => new Date();

(() => {
  let collection;
  try {
    collection = db.getCollection("objects");
  } catch {
    return; // mongosh --nodb: there are no collections
  }
  const methods = Object.getPrototypeOf(collection); // those of every collection

  // update_one for updateOne, find_one for findOne, count_documents for countDocuments, ...
  for (const name of Object.getOwnPropertyNames(methods)) {
    const alias = name.replace(/[A-Z]/g, (letter) => "_" + letter.toLowerCase());
    if (/^[a-z]+[A-Z]/.test(name) && !(alias in methods)) methods[alias] = methods[name];
  }

  // As in the old mongo shell: one document, or with {multi: true} all of them.
  methods.update = function (filter, change, options = {}) {
    const { multi, ...others } = options;
    return multi ? this.updateMany(filter, change, others) : this.updateOne(filter, change, others);
  };
})();
